"""Cross-layer equalization: neighbouring convolutions get like ranges of weights, and compute what they did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from compress.quantize.activations import read_by

if TYPE_CHECKING:
    import onnx

ROUNDS = 20
"""Over all pairs; a chain of pairs settles well before."""
CLOSE = 1e-3


@dataclass(frozen=True)
class Pair:
    """Two convolutions with nothing but a ReLU between them, and nothing else reading what lies between."""

    first: onnx.NodeProto
    second: onnx.NodeProto


def equalized(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a float model whose pairs of convolutions share out their ranges evenly, channel by channel.

    Channel i between the two is divided by s_i = sqrt(r1_i / r2_i), with r1 the largest weight that makes it and r2 the
    largest that reads it; ReLU(x / s) = ReLU(x) / s, so the function stays. A ReLU6 does not commute with scaling, and
    such pairs stay as they are.

    Source: Nagel et al. 2019, arXiv:1906.04721, section 4.1.
    """
    import onnx
    from onnx import numpy_helper

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    pairs = equalizable(copy.graph)
    tensors = {tensor.name: tensor for tensor in copy.graph.initializer}
    names = {name for pair in pairs for node in (pair.first, pair.second) for name in node.input[1:] if name}
    values = {name: np.array(numpy_helper.to_array(tensors[name]), np.float64) for name in names}
    for _ in range(ROUNDS):
        if max((_equalize(pair, values) for pair in pairs), default=0.0) < CLOSE:
            break
    for name, array in values.items():
        tensors[name].CopyFrom(numpy_helper.from_array(array.astype(np.float32), name))
    return copy


def equalizable(graph: onnx.GraphProto) -> list[Pair]:
    """The pairs of a graph, in order; weights and biases are constants that nothing else reads."""
    constants = {tensor.name for tensor in graph.initializer}
    uses = Counter(name for node in graph.node for name in read_by(node))
    uses.update(value.name for value in graph.output)
    read = {name: node for node in graph.node for name in node.input}

    def own_weights(node: onnx.NodeProto) -> bool:
        return node.op_type == "Conv" and all(name in constants and uses[name] == 1 for name in node.input[1:])

    pairs = []
    for first in filter(own_weights, graph.node):
        after = first
        while uses[after.output[0]] == 1 and (after := read[after.output[0]]).op_type == "Relu":
            pass
        if after is not first and own_weights(after) and after.input[0] not in constants:
            pairs.append(Pair(first, after))
    return pairs


def _equalize(pair: Pair, values: dict[str, np.ndarray]) -> float:
    """Scale one pair; how far the scales were from 1."""
    made, read = values[pair.first.input[1]], values[pair.second.input[1]]
    groups = next((attribute.i for attribute in pair.second.attribute if attribute.name == "group"), 1)
    by_channel = _reading(read, groups)
    before, behind = np.abs(made).reshape(len(made), -1).max(axis=1), np.abs(by_channel).max(axis=1)
    used = (before > 1e-12) & (behind > 1e-12)
    scales = np.where(used, np.sqrt(np.where(used, before, 1.0) / np.where(used, behind, 1.0)), 1.0)
    made /= scales.reshape(-1, *[1] * (made.ndim - 1))
    if len(pair.first.input) > 2 and pair.first.input[2]:
        values[pair.first.input[2]] /= scales
    per_group = scales.reshape(groups, -1)
    outputs = np.repeat(per_group, len(read) // groups, axis=0)  # (output channels, inputs of one)
    read *= outputs.reshape(*outputs.shape, *[1] * (read.ndim - 2))
    return float(np.abs(scales - 1).max())


def _reading(weight: np.ndarray, groups: int) -> np.ndarray:
    """The second weight (O, I / groups, ...) by its input channels: (I, all that read one)."""
    in_groups = weight.reshape(groups, len(weight) // groups, weight.shape[1], -1)
    return in_groups.transpose(0, 2, 1, 3).reshape(groups * weight.shape[1], -1)
