"""SmoothQuant: outliers of activations go into the weights that read them, so that both fit their integers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from compress.quantize.activations import activations, read_by
from targets.base import Arrays

if TYPE_CHECKING:
    import onnx


def smoothed(model: onnx.ModelProto, samples: Iterable[Arrays], alpha: float) -> onnx.ModelProto:
    """A copy of a float model that computes the same with smoother inputs to its matrix products.

    Channel j of what products with constant weights read is divided by s_j = max|x_j|^alpha / max|w_j|^(1 - alpha), and
    their weights' rows are multiplied by it. The division goes into the layer normalization that made the tensor where
    nothing else reads it; elsewhere it is a Mul of its own.

    Args:
        alpha: from 0 to 1; 0.5 shares the outliers evenly, more puts more of them into the weights.

    Source: Xiao et al. 2022, arXiv:2211.10438, section 4.
    """
    import onnx
    from onnx import helper, numpy_helper

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    uses = Counter(name for node in graph.node for name in read_by(node))
    uses.update(value.name for value in graph.output)
    groups = _groups(graph, set(tensors), uses)
    largest = _largest_by_channel(model, list(groups), samples)
    made_by = {name: node for node in graph.node for name in node.output}

    def scale(name: str, factors: np.ndarray) -> None:
        tensors[name].CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensors[name]) * factors, name))

    for name, nodes in groups.items():
        weights = [np.abs(numpy_helper.to_array(tensors[node.input[1]])).max(axis=1) for node in nodes]
        factors = smoothing(largest[name], np.max(weights, axis=0), alpha)
        for node in nodes:
            scale(node.input[1], factors[:, None])
        made = made_by.get(name)
        parts = [] if made is None else list(made.input[1:])
        normalised = made is not None and made.op_type == "LayerNormalization"
        if normalised and uses[name] == len(nodes) and all(part in tensors and uses[part] == 1 for part in parts):
            for part in parts:
                scale(part, 1 / factors)
            continue
        graph.initializer.append(numpy_helper.from_array(1 / factors, f"{name}_smoothing"))
        divided = helper.make_node("Mul", [name, f"{name}_smoothing"], [f"{name}_smoothed"], f"{name}-smooth")
        first = next(place for place, node in enumerate(graph.node) if node.name == nodes[0].name)
        for node in nodes:
            node.input[0] = divided.output[0]
        graph.node.insert(first, divided)
    return onnx.shape_inference.infer_shapes(copy)


def smoothing(inputs: np.ndarray, weights: np.ndarray, alpha: float) -> np.ndarray:
    """The divisor of each channel from its largest input and weight; 1 where either is 0."""
    used = (inputs > 1e-9) & (weights > 1e-9)
    factors = np.where(used, inputs, 1.0) ** alpha / np.where(used, weights, 1.0) ** (1 - alpha)
    return np.where(used, np.maximum(factors, 1e-5), 1.0).astype(np.float32)


def _groups(graph: onnx.GraphProto, constants: set[str], uses: Counter[str]) -> dict[str, list[onnx.NodeProto]]:
    """By the tensor that they read: the products whose constant weight no other node reads."""
    ranks = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    groups: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        if node.op_type != "MatMul" or node.input[0] in constants:
            continue
        if ranks.get(node.input[1]) == 2 and uses[node.input[1]] == 1:
            groups[node.input[0]].append(node)
    return dict(groups)


def _largest_by_channel(model: onnx.ModelProto, tensors: list[str], samples: Iterable[Arrays]) -> dict[str, np.ndarray]:
    largest: dict[str, np.ndarray] = {}
    for _, values in activations(model, tensors, samples):
        for name, array in values.items():
            now = np.abs(array).reshape(-1, array.shape[-1]).max(axis=0)
            largest[name] = np.maximum(largest.get(name, now), now)
    return largest
