"""OpenVINO: true FP32, and what the runtime graph tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks.accuracy import statistics_of
from benchmarks.machine import usable_cores
from benchmarks.metrics import Accuracy
from compress.quantize.model import quantize_model
from export.errors import EnvironmentFailure, InputError, UnsupportedError
from export.model import OnnxModel
from targets.base import FP32, Engine, Scheme
from targets.openvino import OpenVino
from targets.openvino.session import cache_folder, missing_device, open_engine, properties
from tests.targets import networks

TARGET = OpenVino()
pytestmark = pytest.mark.skipif(bool(TARGET.unavailable()), reason=str(TARGET.unavailable()))


def test_fp32_is_not_run_in_bf16(tmp_path: Path) -> None:
    engine = TARGET.compile(networks.attention(tmp_path / "model.onnx"), FP32, tmp_path)
    assert engine.settings["precision_hint"] == "f32"
    assert "bf16" not in engine.operators
    assert engine.operators["fp32"] > 5


def test_int8_operators_are_counted(tmp_path: Path) -> None:
    scheme = TARGET.schemes()[0]
    model = networks.convolutional(tmp_path / "model.onnx")
    quantized = quantize_model(model, [networks.images(8)], scheme, tmp_path / "quantized.onnx")
    assert TARGET.compile(quantized, scheme, tmp_path).operators["int8"] >= 2


@pytest.mark.parametrize(
    ("device", "features", "offered"),
    [
        ("CPU", {"avx2"}, set()),
        ("CPU", {"avx2", "bf16"}, {"bf16"}),
        ("CPU", {"bf16", "fp16"}, {"bf16", "fp16"}),
        ("GPU", {"bf16"}, {"fp16"}),
        ("GPU.1", set(), {"fp16"}),
        ("NPU", {"bf16"}, set()),
        ("AUTO", {"bf16"}, set()),
    ],
)
def test_half_precision_is_offered_only_where_the_device_has_it(
    device: str, features: set[str], offered: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("targets.openvino.instruction_sets", lambda: frozenset(features))
    schemes = OpenVino(device=device).schemes()
    assert {scheme.name for scheme in schemes} & {"bf16", "fp16"} == offered
    assert schemes[0].reduce_range is (device in ("CPU", "AUTO")), "only a CPU without VNNI saturates"


def test_fp16_weights_are_half_the_file_and_the_same_arithmetic(tmp_path: Path) -> None:
    model, engines = networks.convolutional(tmp_path / "model.onnx"), {}
    for scheme in (FP32, _named("fp16-weights")):
        folder = tmp_path / scheme.name
        folder.mkdir()
        engines[scheme.name] = TARGET.compile(model, scheme, folder)
    whole, halved = engines["fp32"], engines["fp16-weights"]
    floats = sum(np.prod(tensor.dims) for tensor in model.proto().graph.initializer if tensor.data_type == 1)
    saved = whole.path.with_suffix(".bin").stat().st_size - halved.path.with_suffix(".bin").stat().st_size
    assert saved == pytest.approx(2 * floats, abs=64)  # alignment
    assert halved.settings["precision_hint"] == "f32"
    assert halved.operators == whole.operators
    assert "fp16-weights" not in [scheme.name for scheme in TARGET.schemes(model)], "offered on request"


def test_what_openvino_cannot_convert_is_named_with_its_reason(tmp_path: Path) -> None:
    path, shape = tmp_path / "model.onnx", ["batch", 3, 4, 4]
    pool = helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[9, 9], strides=[9, 9], ceil_mode=1)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3, 1, 1])]
    graph = helper.make_graph([pool], "pooled", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    with pytest.raises(
        UnsupportedError, match=r"AveragePool cannot be converted: Kernel .* larger than the data shape"
    ):
        OpenVino().compile(OnnxModel.read(path), FP32, tmp_path)


def test_a_damaged_ir_is_refused_in_a_sentence(tmp_path: Path) -> None:
    engine = TARGET.compile(networks.convolutional(tmp_path / "model.onnx"), FP32, tmp_path)
    engine.path.write_text("<net")
    with pytest.raises(EnvironmentFailure, match=r"model\.xml: OpenVINO cannot load it"):
        TARGET.load(engine, threads=1)


def test_a_buffer_that_is_filled_anew_is_read_anew_and_any_array_is_taken(tmp_path: Path) -> None:
    engine = TARGET.compile(networks.convolutional(tmp_path / "model.onnx"), FP32, tmp_path)
    [name] = [spec.name for spec in engine.inputs]
    one, other = networks.images(2, seed=1)[name], networks.images(2, seed=2)[name]
    with TARGET.load(engine, threads=1) as session, TARGET.load(engine, threads=1) as fresh:
        expected = {key: fresh.run({name: array})["logits"] for key, array in (("one", one), ("other", other))}
        buffer = one.copy()
        assert np.array_equal(session.run({name: buffer})["logits"], expected["one"])
        buffer[:] = other
        assert np.array_equal(session.run({name: buffer})["logits"], expected["other"])
        for unusual in (one.astype(np.float64), np.asfortranarray(one), one[:, :, ::-1][:, :, ::-1]):
            assert np.array_equal(session.run({name: unusual})["logits"], expected["one"])
        assert np.array_equal(session.run({name: buffer})["logits"], expected["other"])
        assert len(session.run({name: one[:1].copy()})["logits"]) == 1


def test_fixed_shapes_are_told_and_any_other_is_refused(tmp_path: Path) -> None:
    target = OpenVino(shapes={"batch": 2, "length": 9})
    engine = target.compile(networks.attention(tmp_path / "model.onnx"), FP32, tmp_path)
    assert [spec.shape for spec in engine.inputs] == [(2, 9), (2, 9)]
    assert [spec.shape for spec in engine.outputs] == [(2, 4)]
    with target.load(engine, threads=1) as session:
        assert session.run(networks.sentences(2))["logits"].shape == (2, 4)
        with pytest.raises(InputError, match=r"input 'ids': found shape \[3, 9\], allowed: \[2, 9\]"):
            session.run(networks.sentences(3))


def test_one_axis_may_be_fixed_and_another_stay_dynamic(tmp_path: Path) -> None:
    model = networks.attention(tmp_path / "model.onnx")
    engine = OpenVino(shapes={"length": 9}).compile(model, FP32, tmp_path)
    assert [spec.shape for spec in engine.inputs] == [("batch", 9), ("batch", 9)]
    with TARGET.load(engine, threads=1) as session:
        for samples in (1, 3):
            found, expected = (networks.sentences(samples), networks.float_outputs(model, networks.sentences(samples)))
            assert np.abs(session.run(found)["logits"] - expected).max() < 1e-4


def test_an_engine_with_a_fixed_batch_is_scored_on_all_samples(tmp_path: Path) -> None:
    model, inputs = networks.convolutional(tmp_path / "model.onnx"), networks.images(7)
    truth = networks.float_outputs(model, inputs).argmax(axis=1)
    engine = OpenVino(shapes={"batch": 4}).compile(model, FP32, tmp_path)
    rows = statistics_of(engine, [(inputs, truth)], Accuracy()).rows
    assert len(rows) == 7
    assert Accuracy().value(rows) == 1.0


def test_a_cached_model_is_loaded_from_this_machine_and_no_place_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "kept"))
    (tmp_path / "engine").mkdir()
    target = OpenVino(cache=True)
    engine = target.compile(networks.convolutional(tmp_path / "model.onnx"), FP32, tmp_path / "engine")
    assert not (tmp_path / "kept").exists(), "compiling fills no cache"
    assert str(tmp_path) not in str(engine.settings)
    loaded = [open_engine(engine, properties(engine.settings, 1)).get_property("LOADED_FROM_CACHE") for _ in range(2)]
    assert loaded == [False, True]
    assert sorted(file.name for file in (tmp_path / "engine").iterdir()) == ["model.bin", "model.xml"]
    assert any((tmp_path / "kept" / "openvino").iterdir())


def test_the_cache_is_the_users_unless_another_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMPRESS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/edge-compress/openvino")
    monkeypatch.setenv("COMPRESS_CACHE", "/own")
    assert cache_folder() == Path("/own/openvino")


def test_hints_reach_the_runtime(tmp_path: Path) -> None:
    model = networks.convolutional(tmp_path / "model.onnx")
    two = min(2, usable_cores())
    for target, streams in ((OpenVino(), 1), (OpenVino(streams=2), two), (OpenVino(hint="throughput", streams=1), 1)):
        engine = target.compile(model, FP32, tmp_path)
        compiled = open_engine(engine, properties(engine.settings, threads=4))
        assert compiled.get_property("NUM_STREAMS") == streams
        assert str(compiled.get_property("PERFORMANCE_HINT")).rpartition(".")[2].lower() == target.hint


def test_auto_compiles_and_computes(tmp_path: Path) -> None:
    target, model = OpenVino(device="AUTO:CPU"), networks.convolutional(tmp_path / "model.onnx")
    assert target.cannot_run() is None
    engine = target.compile(model, FP32, tmp_path)
    assert engine.operators["fp32"] >= 3
    with target.load(engine, threads=1) as session:
        inputs = networks.images(3)
        assert np.abs(session.run(inputs)["logits"] - networks.float_outputs(model, inputs)).max() < 1e-4
    with pytest.raises(UnsupportedError, match=r"layers are timed on the CPU only, this engine is for AUTO:CPU"):
        target.profile(engine, inputs, threads=1, runs=2)


def test_a_device_that_is_not_here_is_compiled_for_but_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("targets.openvino.missing_device", lambda _: "no GPU on this machine; OpenVINO finds CPU")
    target = OpenVino(device="GPU")
    assert target.unavailable() is None
    assert target.cannot_run() == "no GPU on this machine; OpenVINO finds CPU"
    engine = target.compile(networks.convolutional(tmp_path / "model.onnx"), _named("fp16", target), tmp_path)
    assert engine.settings["device"] == "GPU"
    assert engine.settings["precision_hint"] == "f16"
    assert not engine.operators, "what it would run on a GPU is not known"


@pytest.mark.skipif(missing_device("GPU") is None, reason="a GPU is here")
def test_the_devices_that_are_here_are_named(tmp_path: Path) -> None:
    assert missing_device("AUTO") is None
    assert missing_device("CPU") is None
    assert (missing_device("AUTO:GPU,CPU") or "").startswith("no GPU on this machine; OpenVINO finds CPU")
    engine = TARGET.compile(networks.convolutional(tmp_path / "model.onnx"), FP32, tmp_path)
    moved = Engine(**{**vars(engine), "settings": {**engine.settings, "device": "GPU"}})
    with pytest.raises(EnvironmentFailure, match=r"model\.xml: OpenVINO cannot load it: no GPU on this machine"):
        TARGET.load(moved, threads=1)


def test_an_npu_asks_for_fixed_shapes(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"an NPU takes fixed shapes only; add to shapes: batch, length"):
        OpenVino(device="NPU").compile(networks.attention(tmp_path / "model.onnx"), FP32, tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"device": "CUDA"}, r"device: found 'CUDA', allowed: CPU, GPU, GPU\.1, NPU, AUTO, or AUTO:GPU,CPU"),
        ({"device": "AUTO:"}, r"device: found 'AUTO:'"),
        ({"hint": "speed"}, r"hint: found 'speed', allowed: latency, throughput"),
        ({"streams": -1}, r"streams: found -1, allowed: 1 or more, or 0"),
        ({"shapes": {"batch": 0}}, r"shapes\.batch: found 0, allowed: 1 or more"),
    ],
)
def test_impossible_fields_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OpenVino(**fields)  # type: ignore[arg-type]


def _named(name: str, target: OpenVino = TARGET) -> Scheme:
    return next(scheme for scheme in target.schemes() if scheme.name == name)
