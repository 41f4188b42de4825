"""FP16 and BF16 inside, inputs and outputs as they were."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from export.model import OnnxModel
from targets.base import Arrays
from targets.tensorrt.precision import in_bf16, in_fp16
from tests.targets import networks

NETWORKS = [(networks.convolutional, networks.images), (networks.attention, networks.sentences)]


def test_fp16_keeps_the_types_of_inputs_and_outputs_and_the_values(tmp_path: Path) -> None:
    model = networks.attention(tmp_path / "model.onnx")
    half = in_fp16(model.proto())
    onnx.save(half, tmp_path / "half.onnx")
    read = type(model).read(tmp_path / "half.onnx")
    assert (read.inputs, read.outputs) == (model.inputs, model.outputs)
    assert any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in half.graph.initializer)
    batch = networks.sentences(4)
    np.testing.assert_allclose(networks.float_outputs(read, batch), networks.float_outputs(model, batch), atol=5e-3)


@pytest.mark.parametrize(("make", "inputs"), NETWORKS)
def test_bf16_keeps_the_interface_and_computes_the_model(
    make: Callable[[Path], OnnxModel], inputs: Callable[[int], Arrays], tmp_path: Path
) -> None:
    """ONNX Runtime has no BF16 products on CPU: the same graph with its rounded weights back in FP32 is run."""
    model = make(tmp_path / "model.onnx")
    brain = in_bf16(model.proto())
    onnx.save(brain, tmp_path / "brain.onnx")
    read = OnnxModel.read(tmp_path / "brain.onnx")
    assert (read.inputs, read.outputs) == (model.inputs, model.outputs)
    types = {tensor.data_type for tensor in brain.graph.initializer}
    assert TensorProto.BFLOAT16 in types
    assert types.isdisjoint({TensorProto.FLOAT16, TensorProto.FLOAT})
    casts = [each.i for node in brain.graph.node for each in node.attribute if each.name == "to"]
    assert TensorProto.BFLOAT16 in casts
    assert TensorProto.FLOAT16 not in casts
    onnx.save(_in_fp32(brain), tmp_path / "wide.onnx")
    wide, batch = OnnxModel.read(tmp_path / "wide.onnx"), inputs(4)
    expected = networks.float_outputs(model, batch)
    found = networks.float_outputs(wide, batch)
    assert 0 < np.abs(found - expected).max() < 2**-8 * 4 * np.ptp(expected)


def test_bf16_rounds_as_torch_does_and_keeps_what_fp16_cannot_hold() -> None:
    values = np.array([1.0, -3.14159, 65504.0, 1e30, -3.4e38, 1e-30, 1.00390625, 1.01171875], np.float32)
    nodes = [
        helper.make_node("Constant", [], ["c"], "constant", value=numpy_helper.from_array(values, "ignored")),
        helper.make_node("Mul", ["x", "c"], ["scaled"], "scale"),
        helper.make_node("Add", ["scaled", "w"], ["y"], "add"),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 8]) for name in ("x", "y"))
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(values, "w")]))
    found = {tensor.name: tensor for tensor in in_bf16(model).graph.initializer}
    largest = torch.finfo(torch.bfloat16).max
    expected = torch.from_numpy(values).clamp(-largest, largest).bfloat16().float().numpy()
    assert np.isfinite(expected).all()
    for name in ("c", "w"):
        np.testing.assert_array_equal(numpy_helper.to_array(found[name]).astype(np.float32), expected)


def _in_fp32(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every BF16 type replaced by FP32, values kept."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for tensor in wide.graph.initializer:
        if tensor.data_type == TensorProto.BFLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    for attribute in (each for node in wide.graph.node for each in node.attribute):
        if attribute.name == "to" and attribute.i == TensorProto.BFLOAT16:
            attribute.i = TensorProto.FLOAT
    del wide.graph.value_info[:]
    return wide
