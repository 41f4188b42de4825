"""Verdicts of ONNX Runtime's checker on networks whose operators are in or not in the providers' published tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from compress.quantize.model import quantize_model
from targets.onnxruntime_mobile import OnnxRuntimeMobile
from targets.onnxruntime_mobile.usability import usability
from tests.targets import networks


def test_dynamic_shapes_are_the_reason_where_they_are(tmp_path: Path) -> None:
    told = _by_provider(networks.convolutional(tmp_path / "model.onnx").path)
    nnapi = told["NNAPI"]
    assert (nnapi["as_it_is"], nnapi["with_fixed_shapes"]) == ("no", "yes")
    assert (nnapi["partitions"], nnapi["nodes_taken"], nnapi["nodes"]) == (1, 8, 8)
    assert (
        nnapi["why"]
        == "takes fixed shapes only, 8 nodes have others; with fixed shapes it takes every node in one part"
    )
    fixed = _by_provider(_with_batch_of_one(tmp_path / "model.onnx"))["NNAPI"]
    assert (fixed["as_it_is"], fixed["why"]) == ("yes", "it takes every node in one part")


def test_operators_that_a_provider_lacks_are_named_and_partitions_counted(tmp_path: Path) -> None:
    """CoreML's ML Program has no Flatten, which stands before the last layer."""
    told = _by_provider(networks.convolutional(tmp_path / "model.onnx").path)["CoreML, ML Program"]
    assert (told["with_fixed_shapes"], told["partitions"], told["nodes_taken"]) == ("maybe", 2, 7)
    assert "does not have Flatten (1 nodes)" in told["why"]
    assert told["why"].endswith("2 parts, and each change between CoreML and the CPU costs a copy")


def test_layers_side_by_side_have_nothing_between_them(tmp_path: Path) -> None:
    """As the latency table of `prune: {speedup: ...}` times them: every node from an input to an output."""
    shape = [1, 3, 8, 8]
    pairs = [("a", "b"), ("c", "d")]
    nodes = [helper.make_node("Relu", [one], [other], f"relu of {one}") for one, other in pairs]
    inputs = [helper.make_tensor_value_info(one, TensorProto.FLOAT, shape) for one, _ in pairs]
    outputs = [helper.make_tensor_value_info(other, TensorProto.FLOAT, shape) for _, other in pairs]
    graph = helper.make_graph(nodes, "side by side", inputs, outputs)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "two.onnx"
    )
    assert _by_provider(tmp_path / "two.onnx")["NNAPI"]["as_it_is"] == "yes"


def test_a_quantized_model_is_not_for_coreml(tmp_path: Path) -> None:
    model, scheme = networks.convolutional(tmp_path / "model.onnx"), OnnxRuntimeMobile().schemes()[1]
    assert scheme.name == "int8"
    quantized = quantize_model(model, [networks.images(8)], scheme, tmp_path / "quantized.onnx")
    told = _by_provider(quantized.path)
    assert told["NNAPI"]["with_fixed_shapes"] == "yes"
    assert told["CoreML, neural network"]["with_fixed_shapes"] == "no"
    assert "DequantizeLinear, QuantizeLinear" in told["CoreML, neural network"]["why"]
    assert told["XNNPACK"]["as_it_is"] == "yes"


def test_xnnpack_is_judged_by_its_products(tmp_path: Path) -> None:
    convolutional = _by_provider(networks.convolutional(tmp_path / "model.onnx").path)["XNNPACK"]
    assert convolutional["as_it_is"] == "yes"
    assert "takes 3 of 3 convolutions and matrix products" in convolutional["why"]
    attention = _by_provider(networks.attention(tmp_path / "attention.onnx").path)["XNNPACK"]
    assert attention["as_it_is"] == "no", "products of three axes"


def _by_provider(path: Path) -> dict[str, dict[str, Any]]:
    told = {line["provider"]: line for line in usability(path)}
    assert list(told) == ["NNAPI", "CoreML, ML Program", "CoreML, neural network", "XNNPACK"]
    return told


def _with_batch_of_one(path: Path) -> Path:
    proto = onnx.load(path)
    del proto.graph.input[:], proto.graph.output[:]
    proto.graph.input.append(helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 12, 12]))
    proto.graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 4]))
    onnx.save(proto, path)
    return path
