"""SmoothQuant: the function stays, outliers shrink, and the answer of an outlier-ridden network gains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.quantize.activations import activations
from compress.quantize.model import quantize_model
from compress.quantize.smooth import smoothed, smoothing
from export.model import OnnxModel
from targets.base import Scheme
from tests.targets import networks


def _network(path: Path, residual: bool) -> OnnxModel:
    """Layer norm with two outlier channels, two products that share it, and, if asked, a sum past them."""
    random = np.random.default_rng(4)
    gamma = random.normal(1, 0.1, 16)
    gamma[[3, 11]] = 40.0
    weights = {
        "gamma": gamma,
        "beta": random.normal(0, 0.1, 16),
        "wa": random.normal(0, 0.25, (16, 16)),
        "wb": random.normal(0, 0.25, (16, 16)),
        "wh": random.normal(0, 0.25, (16, 4)),
    }
    for name in ("wa", "wb"):
        weights[name][[3, 11]] /= 20
    nodes = [
        helper.make_node("LayerNormalization", ["x", "gamma", "beta"], ["n"], "norm"),
        helper.make_node("MatMul", ["n", "wa"], ["a"], "first"),
        helper.make_node("MatMul", ["n", "wb"], ["b"], "second"),
        helper.make_node("Add", ["a", "b"], ["ab"], "both"),
        helper.make_node("Add", ["ab", "n" if residual else "a"], ["s"], "past"),
        helper.make_node("Relu", ["s"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "wh"], ["logits"], "head"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "outliers", [x], [logits], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return OnnxModel.read(path)


def _inputs(samples: int = 64) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(8).normal(0, 1, (samples, 16)).astype(np.float32)}


@pytest.mark.parametrize(("residual", "read"), [(False, "n"), (True, "n_smoothed")])
def test_the_function_stays_and_outliers_shrink(residual: bool, read: str, tmp_path: Path) -> None:
    """The division is folded into the norm where nothing else reads it, else it is a Mul."""
    model = _network(tmp_path / "model.onnx", residual)
    changed = smoothed(model.proto(), [_inputs()], alpha=0.5)
    onnx.checker.check_model(changed)
    onnx.save(changed, tmp_path / "smoothed.onnx")
    before = networks.float_outputs(model, _inputs())
    after = networks.float_outputs(OnnxModel.read(tmp_path / "smoothed.onnx"), _inputs())
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)
    first = next(node for node in changed.graph.node if node.name == "first")
    assert first.input[0] == read
    [(_, found)] = list(activations(changed, [read], [_inputs()]))
    [(_, plain)] = list(activations(model.proto(), ["n"], [_inputs()]))
    largest = np.abs(found[read]).max(axis=0)
    assert largest.max() / np.median(largest) < 0.4 * np.abs(plain["n"]).max() / np.median(
        np.abs(plain["n"]).max(axis=0)
    )


def test_the_divisors_are_those_of_the_paper() -> None:
    """Equation 4, at alpha 0.5: sqrt(16 / 4), sqrt(1 / 4), and 1 where nothing is."""
    assert smoothing(np.array([16.0, 1.0, 0.0]), np.array([4.0, 4.0, 2.0]), 0.5) == pytest.approx([2.0, 0.5, 1.0])
    assert smoothing(np.array([16.0]), np.array([4.0]), 1.0) == pytest.approx([16.0])


def test_eight_bits_lose_less_of_the_product(tmp_path: Path) -> None:
    """Written out with numpy: one range for the inputs, one for each column of the weight."""

    def product_error(proto: onnx.ModelProto) -> float:
        first = next(node for node in proto.graph.node if node.name == "first")
        weight = np.asarray(numpy_helper.to_array(next(t for t in proto.graph.initializer if t.name == "wa")))
        [(_, values)] = list(activations(proto, [first.input[0]], [_inputs()]))
        inputs = values[first.input[0]]
        step, steps = np.abs(inputs).max() / 127, np.abs(weight).max(axis=0) / 127
        quantized = (np.round(inputs / step) * step) @ (np.round(weight / steps) * steps)
        return float(np.mean((quantized - inputs @ weight) ** 2))

    proto = _network(tmp_path / "model.onnx", residual=True).proto()
    assert product_error(smoothed(proto, [_inputs()], alpha=0.5)) < 0.5 * product_error(proto)


def test_a_scheme_that_smooths_quantizes_the_smoothed_model(tmp_path: Path) -> None:
    model = _network(tmp_path / "model.onnx", residual=True)
    scheme = Scheme("int8", "int8", "onnxruntime", reduce_range=True, smooth=0.5)
    quantized = quantize_model(model, [_inputs()], scheme, tmp_path / "quantized.onnx")
    assert "n_smoothing" in " ".join(name for node in quantized.proto().graph.node for name in node.input)
