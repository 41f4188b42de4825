"""A Q/DQ model as a graph to edit: which nodes are quantized, what their constants are worth, and putting it in order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")

_READ = {"Add": 2, "Conv": 2, "ConvTranspose": 2, "Div": 2, "Gemm": 2, "MatMul": 2, "Mul": 2, "Sub": 2}
"""How many inputs of an operator hold data; of an operator not named here one, of Concat all."""


class QuantizedGraph:
    """Look-ups in a graph: who makes a tensor, which nodes are quantized."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.proto = model.graph
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.made = {name: node for node in model.graph.node for name in node.output}
        self.named = {node.name: node for node in model.graph.node}

    @property
    def quantized(self) -> list[onnx.NodeProto]:
        """Nodes with 8-bit weights, and those all of whose data comes from DequantizeLinear, but for QuantizeLinear."""
        return [
            node
            for node in self.proto.node
            if node.op_type not in ("QuantizeLinear", "DequantizeLinear") and self._is_quantized(node)
        ]

    def pair(self, name: str) -> onnx.NodeProto | None:
        """The DequantizeLinear that makes a tensor, out of what a QuantizeLinear makes or out of a constant.

        Not one of rows that a Gather takes from a quantized embedding: that only stores in 8 bits.
        """
        node = self.made.get(name)
        if node is None or node.op_type != "DequantizeLinear":
            return None
        maker = self.made.get(node.input[0])
        return node if maker is None or maker.op_type == "QuantizeLinear" else None

    def activation_pairs(self) -> list[onnx.NodeProto]:
        """Every DequantizeLinear of a tensor that a QuantizeLinear makes."""
        pairs = [pair for node in self.proto.node if (pair := self.pair(node.output[0])) is not None]
        return [pair for pair in pairs if pair.input[0] in self.made]

    def array(self, name: str) -> np.ndarray:
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_array(self.constants[name]))

    def add(self, node: onnx.NodeProto) -> None:
        self.proto.node.append(node)
        self.made[node.output[0]] = self.proto.node[-1]

    def add_constant(self, wanted: str, values: np.ndarray) -> str:
        """The name under which the graph holds these values: the wanted one where it is free or theirs."""
        from onnx import numpy_helper

        name = wanted
        while name in self.made or (name in self.constants and not np.array_equal(self.array(name), values)):
            name += "_float"
        if name not in self.constants:
            self.proto.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
            self.constants[name] = self.proto.initializer[-1]
        return name

    def _is_quantized(self, node: onnx.NodeProto) -> bool:
        pairs = [self.pair(name) for name in node.input[: data_inputs(node)] if name]
        weights = [pair for pair in pairs if pair is not None and pair.input[0] in self.constants]
        return bool(weights) or (bool(pairs) and all(pair is not None for pair in pairs))


def dequantized(pair: onnx.NodeProto, graph: QuantizedGraph) -> np.ndarray:
    """The float32 values of a quantized constant."""
    integers = graph.array(pair.input[0]).astype(np.float32)
    scale = spread(graph.array(pair.input[1]), integers, pair)
    if len(pair.input) > 2 and pair.input[2]:
        integers = integers - spread(graph.array(pair.input[2]).astype(np.float32), integers, pair)
    return np.asarray(integers * scale, np.float32)


def spread(scale: np.ndarray, values: np.ndarray, pair: onnx.NodeProto) -> np.ndarray:
    """A scale or zero point so shaped that it goes with each value: one for all, one a channel, or one a block."""
    told = {attribute.name: attribute.i for attribute in pair.attribute}
    axis = told.get("axis", 1)
    if scale.size == 1:
        return scale.reshape(())
    if scale.ndim == values.ndim and told.get("block_size"):
        return np.repeat(scale, told["block_size"], axis=axis).take(range(values.shape[axis]), axis=axis)
    shape = [1] * values.ndim
    shape[axis] = -1
    return scale.reshape(shape)


def data_inputs(node: onnx.NodeProto) -> int:
    """How many inputs of a node hold data: weights and activations, no biases and shapes."""
    return len(node.input) if node.op_type == "Concat" else _READ.get(node.op_type, 1)


def drop_unread(graph: onnx.GraphProto) -> None:
    """Remove what nothing reads any more: nodes first, then constants."""
    while True:
        read = {name for node in graph.node for name in _reads(node)} | {output.name for output in graph.output}
        unread = [node for node in graph.node if not read.intersection(node.output)]
        if not unread:
            break
        for node in unread:
            graph.node.remove(node)
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _reads(node: onnx.NodeProto) -> Iterable[str]:
    """The names that a node reads, those of the graphs within it too."""
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from _reads(inner)


def sort(graph: onnx.GraphProto) -> None:
    """Put the nodes in an order of execution, the same as before as far as possible."""
    waiting = list(graph.node)
    made = {name for node in waiting for name in node.output if name}
    done: set[str] = set()
    ordered: list[onnx.NodeProto] = []
    while waiting:
        ready = [node for node in waiting if not (set(_reads(node)) & made) - done]
        for node in ready:
            done.update(node.output)
        ordered += ready
        waiting = [node for node in waiting if not done.issuperset(node.output)]
    del graph.node[:]
    graph.node.extend(ordered)
