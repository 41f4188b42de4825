"""ONNX Runtime mobile: which schemes suit which network and device, and the files that are written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compress.quantize.model import quantize_model
from export.errors import EnvironmentFailure
from targets.base import FP32
from targets.isa import architecture
from targets.onnxruntime_mobile import OnnxRuntimeMobile
from targets.onnxruntime_mobile import session as sessions
from targets.onnxruntime_mobile.build import NO_OPERATORS_BYTES
from tests.targets import networks


def test_dynamic_schemes_are_for_attention_and_static_ones_for_convolutions(tmp_path: Path) -> None:
    target = OnnxRuntimeMobile()
    of_attention = [scheme.name for scheme in target.schemes(networks.attention(tmp_path / "a.onnx"))]
    of_convolutions = [scheme.name for scheme in target.schemes(networks.convolutional(tmp_path / "c.onnx"))]
    assert of_attention == ["int8-dynamic", "int8", "fp32"]
    assert of_convolutions[0] == "int8"
    assert "int8-dynamic" not in of_convolutions


def test_weights_lose_a_bit_only_where_sums_would_saturate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("targets.onnxruntime_mobile.instruction_sets", lambda: frozenset({"avx2"}))
    schemes = {scheme.name: scheme for scheme in OnnxRuntimeMobile("amd64").schemes()}
    assert schemes["int8"].reduce_range
    assert schemes["int8"].activations == "uint8"
    monkeypatch.setattr("targets.onnxruntime_mobile.instruction_sets", lambda: frozenset({"avx2", "vnni"}))
    assert not any(scheme.reduce_range for scheme in OnnxRuntimeMobile("amd64").schemes())
    arm = {scheme.name: scheme for scheme in OnnxRuntimeMobile("arm64").schemes()}
    assert (arm["int8"].activations, arm["int8"].reduce_range) == ("int8", False)


def test_arm_runs_as_little_in_float_as_x86(tmp_path: Path) -> None:
    """A ReLU vanishes into the range of 8-bit numbers only where that begins at zero."""
    model, counts = networks.convolutional(tmp_path / "model-in.onnx"), []
    for target in (OnnxRuntimeMobile("arm64"), OnnxRuntimeMobile("amd64")):
        scheme = next(scheme for scheme in target.schemes(model) if scheme.name == "int8")
        quantized = quantize_model(model, [networks.images(8)], scheme, tmp_path / "quantized.onnx")
        counts.append(target.compile(quantized, scheme, tmp_path).operators)
    assert counts[0] == counts[1]


def test_int8_kernels_are_counted(tmp_path: Path) -> None:
    target = OnnxRuntimeMobile()
    for make, inputs in ((networks.convolutional, networks.images), (networks.attention, networks.sentences)):
        model = make(tmp_path / "model.onnx")
        scheme = target.schemes(model)[0]
        quantized = quantize_model(model, [inputs(8)], scheme, tmp_path / "quantized.onnx")
        assert target.compile(quantized, scheme, tmp_path).operators["int8"] >= 3, scheme.name


def test_the_required_operators_hold_types_and_only_the_ort_ships(tmp_path: Path) -> None:
    engine = OnnxRuntimeMobile().compile(networks.convolutional(tmp_path / "in.onnx"), FP32, tmp_path)
    config = (tmp_path / "required_operators_and_types.config").read_text()
    assert config.startswith("# Operators and types of model.ort\n")
    assert "Gemm" in config
    assert [file.name for file in engine.files] == ["model.ort"]
    assert (tmp_path / "model.onnx").is_file()
    assert not (tmp_path / "optimised.onnx").exists()


def test_an_artifact_for_another_processor_family_does_not_run_here() -> None:
    other = "arm64" if architecture() == "amd64" else "amd64"
    assert f"compiled for {other}" in (OnnxRuntimeMobile(other).cannot_run() or "")


def test_an_unknown_platform_is_refused() -> None:
    with pytest.raises(ValueError, match=r"platform: found 'riscv', allowed: host, amd64, arm64"):
        OnnxRuntimeMobile("riscv")  # type: ignore[arg-type]


OTHER = "arm64" if architecture() == "amd64" else "amd64"


def test_another_family_gets_a_file_of_its_own_with_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, inputs = OnnxRuntimeMobile(also_for=(OTHER,)), networks.images(5)
    engine = target.compile(networks.convolutional(tmp_path / "in.onnx"), FP32, tmp_path)
    other = tmp_path / f"model.{OTHER}.ort"
    assert [file.name for file in engine.files] == ["model.ort"]
    assert other.read_bytes() != engine.path.read_bytes(), "amd64 holds the blocked layout, arm64 does not"
    with target.load(engine, threads=1) as session:
        here = session.run(inputs)["logits"]
    monkeypatch.setattr(sessions, "architecture", lambda: OTHER)
    assert sessions.ort_file(engine) == other
    with OnnxRuntimeMobile().load(engine, threads=1) as session:
        assert np.abs(session.run(inputs)["logits"] - here).max() < 1e-5
    config = (tmp_path / "required_operators_and_types.config").read_text()
    assert f"model.ort and model.{OTHER}.ort" in config
    assert "com.microsoft.nchwc" in config, "one build runs both files"


def test_a_family_that_is_the_platforms_own_adds_nothing(tmp_path: Path) -> None:
    target = OnnxRuntimeMobile(also_for=(architecture(),))  # type: ignore[arg-type]
    engine = target.compile(networks.convolutional(tmp_path / "in.onnx"), FP32, tmp_path)
    assert engine.settings["also_for"] == {}
    assert [file.name for file in tmp_path.glob("*.ort")] == ["model.ort"]


def test_session_options_are_recorded_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = OnnxRuntimeMobile(spinning=True, arena=False, optimisation="basic")
    engine = target.compile(networks.convolutional(tmp_path / "in.onnx"), FP32, tmp_path)
    assert {"spinning": True, "arena": False, "optimisation": "basic"}.items() <= engine.settings.items()
    options = sessions.open_engine(engine, threads=3).get_session_options()
    assert options.intra_op_num_threads == 3
    assert not options.enable_cpu_mem_arena
    assert options.graph_optimization_level == sessions.level("basic")
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "1"
    calm = OnnxRuntimeMobile().compile(networks.convolutional(tmp_path / "in.onnx"), FP32, tmp_path)
    options = sessions.open_engine(calm, threads=1).get_session_options()
    assert options.enable_cpu_mem_arena
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_less_optimisation_leaves_operators_as_they_are(tmp_path: Path) -> None:
    model = networks.convolutional(tmp_path / "in.onnx")
    counts = {}
    for optimisation in ("all", "basic", "none"):
        engine = OnnxRuntimeMobile(optimisation=optimisation).compile(model, FP32, tmp_path)  # type: ignore[arg-type]
        counts[optimisation] = sum(engine.operators.values())
    assert counts["all"] < counts["none"] == len(model.proto().graph.node)


def test_the_build_command_stands_beside_the_artifact_and_in_the_facts(tmp_path: Path) -> None:
    engine = OnnxRuntimeMobile("arm64").compile(networks.convolutional(tmp_path / "in.onnx"), FP32, tmp_path)
    told = engine.facts["minimal_build"]
    written = (tmp_path / "build_onnxruntime.txt").read_text()
    command = told["commands"]["Android, arm64"]
    assert command in written.splitlines()
    for option in (
        "--android --android_abi arm64-v8a",
        "--minimal_build ",
        "--include_ops_by_config required_operators_and_types.config --enable_reduced_operator_type_support",
    ):
        assert option in command
    assert set(told["files"]) <= {file.name for file in tmp_path.iterdir()}
    assert told["operators"] == 4  # FusedConv (with Relu, and with Add and Relu), GlobalAveragePool, Flatten, Gemm
    assert NO_OPERATORS_BYTES == told["library_at_least_bytes"] < told["library_at_most_bytes"] < 4_000_000
    assert told["how_the_size_is_known"].startswith("estimate, nothing was built: ")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"also_for": ("riscv",)}, r"also_for: found riscv, allowed: each of amd64, arm64 once"),
        ({"also_for": ("arm64", "arm64")}, r"also_for: found arm64, arm64, allowed: each of"),
        ({"optimisation": "most"}, r"optimisation: found 'most', allowed: all, extended, basic, none"),
    ],
)
def test_impossible_fields_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OnnxRuntimeMobile(**fields)  # type: ignore[arg-type]


def test_a_truncated_ort_is_refused_in_a_sentence(tmp_path: Path) -> None:
    target = OnnxRuntimeMobile()
    engine = target.compile(networks.convolutional(tmp_path / "in.onnx"), FP32, tmp_path)
    engine.path.write_bytes(engine.path.read_bytes()[:100])
    with pytest.raises(EnvironmentFailure, match=r"model\.ort: ONNX Runtime cannot load it"):
        target.load(engine, threads=1)
