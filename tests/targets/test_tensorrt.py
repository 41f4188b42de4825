"""TensorRT: engines are built without a GPU; foreign or changed ones are never deserialised."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.errors import EnvironmentFailure, SecurityError, UnsupportedError
from targets.base import FP32, Engine
from targets.tensorrt import TensorRt, refuse_foreign
from targets.tensorrt_builder import in_fp16
from tests.targets import networks

TARGET = TensorRt()
available = pytest.mark.skipif(bool(TARGET.unavailable()), reason=str(TARGET.unavailable()))


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    if reason := TARGET.unavailable():
        pytest.skip(reason)
    return TARGET.compile(networks.convolutional(tmp_path / "in.onnx"), FP32, tmp_path)


def test_an_engine_records_what_it_was_built_with(engine: Engine) -> None:
    assert engine.settings["provider"] in ("tensorrt", "tensorrt_rtx")
    assert len(engine.settings["sha256"]) == 64
    assert engine.settings["compute_capabilities"]


def test_only_the_recorded_engine_passes_on_its_gpu_and_version(engine: Engine) -> None:
    plan, settings = engine.path.read_bytes(), engine.settings
    capability = settings["compute_capabilities"][0]
    refuse_foreign(engine, plan, settings["provider"], settings["version"], capability)
    with pytest.raises(SecurityError, match=r"sha256 is not the recorded one; build it again"):
        refuse_foreign(engine, plan[:-1] + b"?", settings["provider"], settings["version"], capability)
    with pytest.raises(SecurityError, match=r"built by .* found tensorrt 0\.1; build it again"):
        refuse_foreign(engine, plan, "tensorrt", "0.1", capability)
    with pytest.raises(SecurityError, match=r"this GPU has 6\.1; build it again"):
        refuse_foreign(engine, plan, settings["provider"], settings["version"], "6.1")


def test_without_a_gpu_loading_says_so(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("targets.cuda.no_gpu", lambda: "no NVIDIA GPU on this machine")
    with pytest.raises(EnvironmentFailure, match=r"model\.engine: no NVIDIA GPU on this machine"):
        TARGET.load(replace(engine), threads=1)


@available
def test_a_profile_that_does_not_fit_is_refused_with_the_builders_reason(tmp_path: Path) -> None:
    """A batch of 5 cannot be reshaped to (1, ...): the parser or builder says why."""
    model = networks.convolutional(tmp_path / "in.onnx")
    proto = model.proto()
    flatten = next(node for node in proto.graph.node if node.op_type == "Flatten")
    flatten.op_type, flatten.input[:] = "Reshape", ["mean", "shape"]
    del flatten.attribute[:]
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([3, 16], np.int64), "shape"))
    onnx.save(proto, model.path)
    with pytest.raises(UnsupportedError, match=r"tensorrt, scheme 'fp32': "):
        TARGET.compile(model, FP32, tmp_path)


def test_fp16_keeps_the_types_of_inputs_and_outputs_and_the_values(tmp_path: Path) -> None:
    model = networks.attention(tmp_path / "model.onnx")
    half = in_fp16(model.proto())
    onnx.save(half, tmp_path / "half.onnx")
    read = type(model).read(tmp_path / "half.onnx")
    assert (read.inputs, read.outputs) == (model.inputs, model.outputs)
    assert any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in half.graph.initializer)
    batch = networks.sentences(4)
    np.testing.assert_allclose(networks.float_outputs(read, batch), networks.float_outputs(model, batch), atol=5e-3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"compute_capabilities": ("8.6", "9.9")}, r"compute_capabilities: found 9\.9, allowed: one or more of 7\.5"),
        ({"compute_capabilities": ()}, r"compute_capabilities: found none"),
        ({"workspace_mb": 0}, r"workspace_mb: found 0, allowed: 1 or more"),
        ({"axes": {"batch": (4, 1, 32)}}, r"axes\.batch: found \[4, 1, 32\], allowed: \[smallest, usual, largest\]"),
        ({"other_axes": (0, 1, 2)}, r"other_axes: found \[0, 1, 2\]"),
    ],
)
def test_impossible_fields_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TensorRt(**fields)  # type: ignore[arg-type]
