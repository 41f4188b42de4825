"""Weights alone in 8 or 4 bits: products however they are written, embeddings, and what the two share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.quantize.embeddings import tied_products
from compress.quantize.model import quantize_model
from compress.quantize.plain_products import with_plain_products
from compress.quantize.weight_only import weights_with_nncf
from export.model import OnnxModel
from targets.base import FP32, Scheme
from targets.onnxruntime_mobile import OnnxRuntimeMobile
from targets.openvino import OpenVino

WORDS, INNER = 96, 80
IDS = np.array([[3, 90, 41], [0, 95, 7]])


def run(proto: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(output) for output in session.run(None, inputs)]


def model_of(
    nodes: list[onnx.NodeProto], inputs: dict[str, tuple[int, list[int | str]]], outputs: list[str],
    weights: dict[str, np.ndarray],
) -> onnx.ModelProto:  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "weights",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize(
    ("settings", "bias", "left"),
    [({}, True, False), ({"transB": 1}, True, False), ({}, False, False), ({"alpha": 0.5}, True, True)],
)
def test_a_gemm_becomes_a_product_and_a_sum(settings: dict[str, float], bias: bool, left: bool) -> None:
    random = np.random.default_rng(0)
    weight, added = random.normal(size=(6, 5)).astype(np.float32), random.normal(size=5).astype(np.float32)
    x = random.normal(size=(4, 6)).astype(np.float32)
    held = weight.T.copy() if settings.get("transB") else weight
    node = helper.make_node("Gemm", ["x", "w", *(["b"] if bias else [])], ["y"], name="gemm", **settings)
    weights = {"w": held, **({"b": added} if bias else {})}
    plain = with_plain_products(model_of([node], {"x": (TensorProto.FLOAT, ["rows", 6])}, ["y"], weights))
    assert [each.op_type for each in plain.graph.node] == (["Gemm"] if left else ["MatMul", "Add"][: 1 + bias])
    assert len(plain.graph.initializer) == 1 + bias
    expected = settings.get("alpha", 1.0) * (x @ weight) + (added if bias else 0)
    np.testing.assert_allclose(run(plain, {"x": x})[0], expected, rtol=1e-5, atol=1e-5)


def language_model(path: Path, width: int, tied: bool) -> tuple[OnnxModel, dict[str, np.ndarray]]:
    """table[ids] -> a Gemm and back, as a feed-forward layer -> logits by the table, or by a weight of its own."""
    random = np.random.default_rng(1)
    weights = {
        "table": random.normal(size=(WORDS, width)).astype(np.float32),
        "in": (random.normal(size=(width, INNER)) / width**0.5).astype(np.float32),
        "out": (random.normal(size=(INNER, width)) / INNER**0.5).astype(np.float32),
        "bias": random.normal(size=INNER).astype(np.float32),
        "head": random.normal(size=(width, WORDS)).astype(np.float32),
        "flat": np.array([-1, width]),
        "whole": np.array([2, 3, width]),
    }
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["words"], name="look_up"),
        helper.make_node("Reshape", ["words", "flat"], ["rows"]),
        helper.make_node("Gemm", ["rows", "in", "bias"], ["inner"], name="up"),
        helper.make_node("MatMul", ["inner", "out"], ["back"], name="down"),
        helper.make_node("Reshape", ["back", "whole"], ["hidden"]),
        *([helper.make_node("Transpose", ["table"], ["turned"], perm=[1, 0])] if tied else []),
        helper.make_node("MatMul", ["hidden", "turned" if tied else "head"], ["logits"], name="head"),
    ]
    if tied:
        weights["head"] = weights["table"].T
    held = {name: array for name, array in weights.items() if name != "head" or not tied}
    onnx.save(model_of(nodes, {"ids": (TensorProto.INT64, ["batch", "length"])}, ["words", "logits"], held), path)
    return OnnxModel(path, (), (), 18), weights


def scheme(name: str) -> Scheme:
    return next(each for each in OnnxRuntimeMobile().schemes() if each.name == name)


def quantized_bytes(proto: onnx.ModelProto) -> int:
    return sum(numpy_helper.to_array(tensor).nbytes for tensor in proto.graph.initializer)


@pytest.mark.parametrize("width", [64, 72])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["int8-weights", "int4-weights"])
def test_an_embedding_takes_a_byte_a_number_and_none_where_the_output_has_it(
    name: str, tied: bool, width: int, tmp_path: Path
) -> None:
    model, weights = language_model(tmp_path / "model.onnx", width, tied)
    proto = quantize_model(model, [], scheme(name), tmp_path / "quantized.onnx").proto()
    kinds = [node.op_type for node in proto.graph.node]
    assert kinds.count("MatMulNBits") == 3
    assert "Gemm" not in kinds
    # A scale of 4 bytes to each block of 32 numbers, and its copy for the look-up; an own table has one scale a row.
    padded, bits = -(-width // 32) * 32, 8 if name == "int8-weights" else 4
    product = bits / 8 + 4 / 32
    shared = tied and padded == width
    head = WORDS * padded * (1 + 4 / 32 if tied else product)
    table = WORDS * (width * 4 / 32 if shared else width + 4)
    inner = (INNER * padded + width * -(-INNER // 32) * 32) * product
    assert quantized_bytes(proto) == pytest.approx(head + table + inner, abs=4 * INNER + 200)
    words, logits = run(proto, {"ids": IDS})
    expected = weights["table"][IDS]
    # Rounded to the nearest of 127 or 128 steps up to the largest of a block or row.
    assert np.abs(words - expected).max() <= np.abs(weights["table"]).max() / 127 / 2 * 1.01
    float_logits = (expected @ weights["in"] + weights["bias"]) @ weights["out"] @ weights["head"]
    error = np.linalg.norm(logits - float_logits) / np.linalg.norm(float_logits)
    assert error < (0.02 if name == "int8-weights" else 0.2)


def test_a_table_like_no_weight_is_not_tied(tmp_path: Path) -> None:
    model, _ = language_model(tmp_path / "model.onnx", 64, tied=False)
    assert tied_products(model.proto().graph) == {}


@pytest.mark.parametrize(("inputs", "blocks"), [(64, 2), (96, 3), (48, 3), (40, 1)])
def test_blocks_of_openvino_fit_the_widths_that_pruning_left(inputs: int, blocks: int, tmp_path: Path) -> None:
    """48 = 3 x 16 has blocks of 16; 40 has none that OpenVINO reads, and 8 bits. The bias is added once."""
    random = np.random.default_rng(0)
    weight, bias = (random.normal(size=shape).astype(np.float32) for shape in ((inputs, 48), 48))
    bias *= 30
    x = random.normal(size=(3, inputs)).astype(np.float32)
    node = helper.make_node("Gemm", ["x", "w", "b"], ["h"], name="product")
    out = helper.make_node("MatMul", ["h", "v"], ["y"], name="last")  # NNCF leaves the last product in 8 bits
    last = random.normal(size=(48, 4)).astype(np.float32)
    model = model_of(
        [node, out], {"x": (TensorProto.FLOAT, ["rows", inputs])}, ["y"], {"w": weight, "b": bias, "v": last}
    )
    compressed = weights_with_nncf(model, Scheme("int4-weights", "int4", "nncf", mode="weights", weight_bits=4))
    [scale] = [each for each in compressed.graph.initializer if each.name == "w_scale"]
    assert np.prod(scale.dims) == 48 * blocks
    onnx.save(compressed, tmp_path / "q.onnx")
    with OpenVino().load(OpenVino().compile(OnnxModel.read(tmp_path / "q.onnx"), FP32, tmp_path), 1) as session:
        [found] = session.run({"x": x}).values()
    expected = (x @ weight + bias) @ last
    assert np.abs(found - expected).mean() < 0.15 * np.abs(expected).mean()
