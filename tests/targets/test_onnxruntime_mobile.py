"""ONNX Runtime mobile: which schemes suit which network and device, and the files that are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.quantize.model import quantize_model
from export.errors import EnvironmentFailure
from targets.base import FP32
from targets.isa import architecture
from targets.onnxruntime_mobile import OnnxRuntimeMobile
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


def test_a_truncated_ort_is_refused_in_a_sentence(tmp_path: Path) -> None:
    target = OnnxRuntimeMobile()
    engine = target.compile(networks.convolutional(tmp_path / "in.onnx"), FP32, tmp_path)
    engine.path.write_bytes(engine.path.read_bytes()[:100])
    with pytest.raises(EnvironmentFailure, match=r"model\.ort: ONNX Runtime cannot load it"):
        target.load(engine, threads=1)
