"""Two tiny seeded networks as ONNX files, made node by node: convolutions, and one attention layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from export.model import OnnxModel
from targets.base import Arrays

WIDTH, WORDS = 32, 50


def convolutional(path: Path) -> OnnxModel:
    """Conv, depthwise Conv, residual sum, mean over the image, Gemm: image (batch, 3, 12, 12) -> logits (batch, 4)."""
    random = np.random.default_rng(0)
    weights = {
        "w1": random.normal(0, 0.3, (16, 3, 3, 3)),
        "b1": random.normal(0, 0.1, 16),
        "w2": random.normal(0, 0.4, (16, 1, 3, 3)),
        "b2": random.normal(0, 0.1, 16),
        "w3": random.normal(0, 0.5, (4, 16)),
        "b3": random.normal(0, 0.1, 4),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "depthwise", pads=[1, 1, 1, 1], group=16),
        helper.make_node("Add", ["c2", "r1"], ["sum"], "residual"),
        helper.make_node("Relu", ["sum"], ["r2"], "relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["mean"], "mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["logits"], "head", transB=1),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 12, 12])
    return _save(path, nodes, [image], weights)


def attention(path: Path) -> OnnxModel:
    """Embedding, one masked attention head, masked mean over the words: ids and mask (batch, length) int64 -> logits (batch, 4)."""
    random = np.random.default_rng(1)
    weights = {name: random.normal(0, WIDTH**-0.5, (WIDTH, WIDTH)) for name in ("wq", "wk", "wv")}
    weights |= {"table": random.normal(0, 1, (WORDS, WIDTH)), "w": random.normal(0, 0.5, (WIDTH, 4))}
    weights |= {"scale": np.array(WIDTH**-0.5), "one": np.array(1.0), "lowest": np.array(-1e4)}
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"], "embedding"),
        *(helper.make_node("MatMul", ["x", f"w{name}"], [name], name) for name in "qkv"),
        helper.make_node("Transpose", ["k"], ["kt"], "transpose", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["product"], "product"),
        helper.make_node("Mul", ["product", "scale"], ["scaled"], "scaling"),
        helper.make_node("Cast", ["mask"], ["kept"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Sub", ["one", "kept"], ["dropped"], "dropped"),
        helper.make_node("Mul", ["dropped", "lowest"], ["bias"], "bias"),
        helper.make_node("Unsqueeze", ["bias", "axis1"], ["bias3"], "bias3"),
        helper.make_node("Add", ["scaled", "bias3"], ["masked"], "masking"),
        helper.make_node("Softmax", ["masked"], ["weights"], "softmax", axis=-1),
        helper.make_node("MatMul", ["weights", "v"], ["context"], "context"),
        helper.make_node("Unsqueeze", ["kept", "axis2"], ["kept3"], "kept3"),
        helper.make_node("Mul", ["context", "kept3"], ["words"], "words"),
        helper.make_node("ReduceSum", ["words", "axis1"], ["total"], "pool", keepdims=0),
        helper.make_node("ReduceSum", ["kept", "axis1"], ["count"], "count", keepdims=1),
        helper.make_node("Div", ["total", "count"], ["pooled"], "mean"),
        helper.make_node("MatMul", ["pooled", "w"], ["logits"], "head"),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]) for name in ("ids", "mask")]
    return _save(path, nodes, inputs, weights)


def unknown(path: Path) -> OnnxModel:
    """One operator that no runtime has."""
    nodes = [helper.make_node("Frobnicate", ["image"], ["logits"], "odd_one", domain="acme")]
    return _save(path, nodes, [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 4])], {})


def images(samples: int, seed: int = 0) -> Arrays:
    return {"image": np.random.default_rng(seed).normal(0, 1, (samples, 3, 12, 12)).astype(np.float32)}


def sentences(samples: int, length: int = 9, seed: int = 0) -> Arrays:
    random = np.random.default_rng(seed)
    ids = random.integers(0, WORDS, (samples, length))
    return {"ids": ids, "mask": (np.arange(length) < random.integers(3, length + 1, (samples, 1))).astype(np.int64)}


def float_outputs(model: OnnxModel, inputs: Arrays) -> np.ndarray:
    """Logits of the unquantized model as plain ONNX Runtime computes them, without graph optimisation."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], inputs)[0])


def _save(
    path: Path, nodes: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto], weights: dict[str, np.ndarray]
) -> OnnxModel:
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    tensors += [numpy_helper.from_array(np.array([axis], np.int64), f"axis{axis}") for axis in (1, 2)]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])
    graph = helper.make_graph(nodes, "tiny", inputs, [logits], tensors)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("acme", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return OnnxModel.read(path)
