"""Cross-layer equalization: the function stays, the ranges meet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.quantize.equalize import equalizable, equalized
from compress.quantize.model import quantize_model
from export.model import OnnxModel
from targets.base import Scheme
from tests.targets import networks


def _network(path: Path, between: str = "Relu", spread: float = 50.0) -> OnnxModel:
    """Expand 1x1, depthwise 3x3, project 1x1, mean, Gemm; the depthwise channels differ `spread`-fold and more."""
    random = np.random.default_rng(3)
    factors = np.exp(random.uniform(-1, 1, 16) * np.log(spread) / 2)
    weights = {
        "we": random.normal(0, 0.5, (16, 3, 1, 1)) * factors[:, None, None, None],
        "be": random.normal(0, 0.2, 16) * factors,
        "wd": random.normal(0, 0.4, (16, 1, 3, 3)) / factors[::-1][:, None, None, None],
        "bd": random.normal(0, 0.1, 16),
        "wp": random.normal(0, 0.3, (8, 16, 1, 1)),
        "wh": random.normal(0, 0.5, (8, 4)),
    }
    nodes = [
        helper.make_node("Conv", ["image", "we", "be"], ["e"], "expand"),
        helper.make_node(between, ["e"], ["er"], "relu1"),
        helper.make_node("Conv", ["er", "wd", "bd"], ["d"], "depthwise", group=16, pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["d"], ["dr"], "relu2"),
        helper.make_node("Conv", ["dr", "wp"], ["p"], "project"),
        helper.make_node("GlobalAveragePool", ["p"], ["mean"], "mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], "flatten"),
        helper.make_node("MatMul", ["flat", "wh"], ["logits"], "head"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 12, 12])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "depthwise", [image], [logits], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return OnnxModel.read(path)


def _weights(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: np.asarray(numpy_helper.to_array(tensor)) for tensor in proto.graph.initializer}


def test_the_function_stays_and_the_ranges_of_neighbours_meet(tmp_path: Path) -> None:
    model = _network(tmp_path / "model.onnx")
    changed = equalized(model.proto())
    onnx.save(changed, tmp_path / "equalized.onnx")
    images = networks.images(4)
    before = networks.float_outputs(model, images)
    after = networks.float_outputs(OnnxModel.read(tmp_path / "equalized.onnx"), images)
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)
    weights = _weights(changed)
    made, read = np.abs(weights["wd"]).max(axis=(1, 2, 3)), np.abs(weights["wp"]).max(axis=(0, 2, 3))
    np.testing.assert_allclose(made, read, rtol=0.01)
    assert np.ptp(np.log(np.abs(_weights(model.proto())["we"]).max(axis=(1, 2, 3)))) > np.log(10)


def test_depthwise_and_pointwise_pairs_are_found_and_relu6_is_not_crossed(tmp_path: Path) -> None:
    pairs = equalizable(_network(tmp_path / "model.onnx").proto().graph)
    assert [(pair.first.name, pair.second.name) for pair in pairs] == [
        ("expand", "depthwise"),
        ("depthwise", "project"),
    ]
    other = equalizable(_network(tmp_path / "model.onnx", between="Sigmoid").proto().graph)
    assert [(pair.first.name, pair.second.name) for pair in other] == [("depthwise", "project")]


def test_what_a_residual_sum_reads_too_stays(tmp_path: Path) -> None:
    """Relu1 of the network feeds the depthwise convolution and the sum."""
    assert equalizable(networks.convolutional(tmp_path / "model.onnx").proto().graph) == []


def test_one_scale_a_tensor_gains_from_it(tmp_path: Path) -> None:
    model, images = _network(tmp_path / "model.onnx"), networks.images(32)
    expected = networks.float_outputs(model, images)

    def error(equalize: bool) -> float:
        scheme = Scheme("int8", "int8", "onnxruntime", per_channel=False, reduce_range=True, equalize=equalize)
        quantized = quantize_model(model, [images], scheme, tmp_path / "quantized.onnx")
        return float(np.mean((networks.float_outputs(quantized, images) - expected) ** 2))

    assert error(equalize=True) < 0.7 * error(equalize=False)


@pytest.mark.parametrize("quantizer", ["onnxruntime", "nncf"])
def test_depthwise_channels_have_one_zero_point(tmp_path: Path, quantizer: str) -> None:
    """ONNX Runtime refuses QLinearConv with activations of several zero points."""
    pytest.importorskip("nncf")
    scheme = Scheme("int8", "int8", quantizer, reduce_range=True, ranges="mse", bias_correction=True)  # type: ignore[arg-type]
    quantized = quantize_model(_network(tmp_path / "model.onnx"), [networks.images(32)], scheme, tmp_path / "q.onnx")
    constants = _weights(quantized.proto())
    zeros = [constants[n.input[2]].size for n in quantized.proto().graph.node if n.op_type == "QuantizeLinear"]
    assert set(zeros) == {1}
    expected = networks.float_outputs(_network(tmp_path / "model.onnx"), networks.images(8))
    assert np.abs(networks.float_outputs(quantized, networks.images(8)) - expected).max() < 0.1 * np.ptp(expected)
