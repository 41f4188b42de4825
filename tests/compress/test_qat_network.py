"""The Q/DQ graph as a torch module: the same answers as ONNX Runtime, and the same graph when it is written back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from compress.qat.network import QuantizedNetwork
from compress.quantize.model import quantize_model
from export.errors import UnsupportedError
from export.model import OnnxModel
from targets.base import Arrays, Scheme
from tests.targets import networks

STATIC = Scheme("int8", "int8", "onnxruntime", reduce_range=True)
SCHEMES = [
    STATIC,
    replace(STATIC, name="signed", activations="int8", symmetric_activations=True, quantize_bias=False),
    replace(STATIC, name="unsigned-weights", weights="uint8", per_channel=False, reduce_range=False),
    Scheme("nncf", "int8", "nncf", reduce_range=True),
]
NETWORKS: dict[str, tuple[Callable[[Path], OnnxModel], Callable[..., Arrays]]] = {
    "residual": (networks.convolutional, networks.images),
    "transformer": (networks.attention, networks.sentences),
}


Quantized = Callable[[str, Scheme], tuple[OnnxModel, OnnxModel, Arrays]]


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Quantized:
    """The float model, the quantized one, and inputs that did not calibrate it; each made once."""

    @cache
    def make(kind: str, scheme: Scheme) -> tuple[OnnxModel, OnnxModel, Arrays]:
        if scheme.quantizer == "nncf":
            pytest.importorskip("nncf")
        folder, (build, inputs) = tmp_path_factory.mktemp("network"), NETWORKS[kind]
        model = build(folder / "model.onnx")
        calibration = [inputs(4, seed=seed) for seed in range(4)]
        return model, quantize_model(model, calibration, scheme, folder / "quantized.onnx"), inputs(64, seed=9)

    return make


def _onnx_runtime(model: onnx.ModelProto, inputs: Arrays) -> np.ndarray:
    """Without graph optimisation, every Q/DQ node is computed as it stands."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, inputs)[0])


def _torch(network: QuantizedNetwork, inputs: Arrays) -> np.ndarray:
    with torch.no_grad():
        return network(*(torch.from_numpy(array) for array in inputs.values()))[0].numpy()


def _constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("kind", NETWORKS)
def test_the_untrained_network_answers_as_onnx_runtime(kind: str, scheme: Scheme, quantized: Quantized) -> None:
    """To 1e-5 of the largest answer, but where a sum's order of addition rounds an activation to the next step."""
    model, qdq, inputs = quantized(kind, scheme)
    network = QuantizedNetwork(qdq.proto(), model.proto())
    found, expected = _torch(network, inputs), _onnx_runtime(qdq.proto(), inputs)
    off = np.abs(found - expected).max(axis=1) / np.abs(expected).max()
    assert np.mean(off > 1e-5) <= 0.02
    assert off.max() < 0.05


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
def test_untrained_it_is_written_back_as_it_was(scheme: Scheme, quantized: Quantized) -> None:
    model, qdq, _ = quantized("residual", scheme)
    back = QuantizedNetwork(qdq.proto(), model.proto()).to_onnx()
    assert back.graph.node == qdq.proto().graph.node
    before, after = _constants(qdq.proto()), _constants(back)
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert value.dtype == after[name].dtype
        np.testing.assert_array_equal(value, after[name])


def test_weights_start_from_the_float_model_and_keep_to_seven_bits(quantized: Quantized) -> None:
    model, qdq, _ = quantized("residual", STATIC)
    network = QuantizedNetwork(qdq.proto(), model.proto())
    floats = _constants(model.proto())
    by_size = {each.start.shape: each for each in network.trained}
    for name in ("w1", "w2", "w3"):
        each = by_size[floats[name].shape]
        assert each.grid is not None
        assert (each.grid.lowest, each.grid.highest) == (-64, 64)
        step = np.abs(floats[name]).reshape(len(floats[name]), -1).max(1) / 63  # the coarsest a channel's scale may be
        off = np.abs(each.start - floats[name]).reshape(len(step), -1).max(1)
        assert np.all(off <= 0.02 * step)
        assert np.unique(each.start).size > 0.9 * each.start.size  # not the integers' own few values


def test_weights_that_the_quantizer_changed_start_at_their_integers(quantized: Quantized) -> None:
    model, qdq, inputs = quantized("residual", STATIC)
    other = model.proto()
    for tensor in other.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(-3 * numpy_helper.to_array(tensor), tensor.name))
    network = QuantizedNetwork(qdq.proto(), other)
    expected = _torch(QuantizedNetwork(qdq.proto(), model.proto()), inputs)
    np.testing.assert_array_equal(_torch(network, inputs), expected)


def test_a_weight_rounded_away_from_its_nearest_integer_starts_where_it_was_put() -> None:
    """As AdaRound does: 2.3 and 1.2 steps became 3 and 1. Rounded to the nearest, the weight starts at the floats."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])
    nodes = [helper.make_node("DequantizeLinear", ["q", "s"], ["d"]), helper.make_node("MatMul", ["x", "d"], ["y"])]

    def start(integers: list[int]) -> list[float]:
        constants = {"q": np.array([integers], np.int8), "s": np.array(1, np.float32)}
        tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
        floats = [numpy_helper.from_array(np.array([[2.3, 1.2, -4.0]], np.float32), "w")]
        quantized, model = (
            helper.make_model(helper.make_graph(nodes, "g", [x], [y], each)) for each in (tensors, floats)
        )
        [trained] = QuantizedNetwork(quantized, model).trained
        return [float(value) for value in trained.start[0]]

    assert start([3, 1, -4]) == [3.0, 1.0, -4.0]
    assert start([2, 1, -4]) == pytest.approx([2.3, 1.2, -4.0])


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("kind", NETWORKS)
def test_changed_weights_are_written_back_as_they_are_used(kind: str, scheme: Scheme, quantized: Quantized) -> None:
    """Weights are moved far out of their range: what is written stays in it, and computes what torch computes."""
    model, qdq, inputs = quantized(kind, scheme)
    network = QuantizedNetwork(qdq.proto(), model.proto())
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1 + 0.5 * torch.randn(parameter.shape))
    back = network.to_onnx()
    found, expected = _torch(network, inputs), _onnx_runtime(back, inputs)
    off = np.abs(found - expected).max(axis=1) / np.abs(expected).max()
    assert np.mean(off > 1e-5) <= 0.02
    before, after = _constants(qdq.proto()), _constants(back)
    weights = [name for name, value in before.items() if value.dtype in (np.int8, np.uint8) and value.ndim > 1]
    assert any((before[name] != after[name]).any() for name in weights)
    for name in weights:
        assert np.abs(after[name].astype(int)).max() <= np.abs(before[name].astype(int)).max()


def test_biases_of_products_are_trained_through_the_quantization_of_the_product(tmp_path: Path) -> None:
    """ONNX Runtime's quantizer puts Q/DQ between a MatMul and the sum with its bias."""
    weights = {"w": np.eye(8, dtype=np.float32), "b": np.arange(8, dtype=np.float32)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], "product"),
        helper.make_node("Add", ["p", "b"], ["y"], "sum"),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 8]) for name in "xy")
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(proto, tmp_path / "m.onnx")
    model = OnnxModel.read(tmp_path / "m.onnx")
    calibration = [{"x": np.random.default_rng(0).normal(0, 1, (8, 8)).astype(np.float32)}]
    quantized = quantize_model(model, calibration, STATIC, tmp_path / "q.onnx")
    assert len(QuantizedNetwork(quantized.proto(), proto).trained) == 2


def test_a_graph_without_pairs_of_one_scale_is_refused(quantized: Quantized) -> None:
    model, qdq, _ = quantized("residual", STATIC)
    proto = qdq.proto()
    node = next(n for n in proto.graph.node if n.op_type == "DequantizeLinear" and "image" in n.name)
    other = next(
        t.name for t in proto.graph.initializer if t.name != node.input[1] and t.name.endswith("_scale") and not t.dims
    )
    node.input[1] = other
    with pytest.raises(
        UnsupportedError, match=r"DequantizeLinear '.*image.*' takes 'image_QuantizeLinear_Output', which no"
    ):
        QuantizedNetwork(proto, model.proto())


def test_dynamic_quantization_is_refused(quantized: Quantized) -> None:
    scheme = Scheme("dynamic", "int8", "onnxruntime", mode="dynamic")
    model, qdq, _ = quantized("transformer", scheme)
    with pytest.raises(
        UnsupportedError, match=r"operator '(DynamicQuantizeLinear|MatMulInteger)' of node '.*' cannot be"
    ):
        QuantizedNetwork(qdq.proto(), model.proto())


def test_a_scale_taken_at_run_time_is_refused(quantized: Quantized) -> None:
    model, qdq, _ = quantized("residual", STATIC)
    proto = qdq.proto()
    node = next(node for node in proto.graph.node if node.op_type == "QuantizeLinear")
    node.input[1] = "elsewhere"
    with pytest.raises(UnsupportedError, match=r"the scale of QuantizeLinear '.*' is taken at run time; only static"):
        QuantizedNetwork(proto, model.proto())


@pytest.mark.parametrize(
    ("integers", "lowest", "highest"),
    [
        ([-8, 3, 7], -8, 7),
        ([-8, 0, 3], -8, 7),
        ([-7, 0, 3], -7, 7),
        ([-64, 64, 5], -64, 64),
        ([-60, 64, 5], -64, 64),
        ([-64, 60, 5], -64, 63),
        ([-127, 90, 5], -127, 127),
        ([-128, 90, 5], -128, 127),
    ],
)
def test_the_range_of_a_weight_is_what_its_quantizer_filled(integers: list[int], lowest: int, highest: int) -> None:
    """4, 7 and 8 bits in an int8 tensor, with and without the lowest value that has no opposite."""
    constants = {"w": np.array([integers], np.int8), "s": np.array(0.1, np.float32)}
    nodes = [helper.make_node("DequantizeLinear", ["w", "s"], ["d"]), helper.make_node("MatMul", ["x", "d"], ["y"])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y], tensors))
    [trained] = QuantizedNetwork(model, model).trained
    assert trained.grid is not None
    assert (trained.grid.lowest, trained.grid.highest) == (lowest, highest)
