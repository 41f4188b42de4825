"""Nodes of a quantized model run in float again: their inputs are read past QuantizeLinear and DequantizeLinear, and the
products of dynamic schemes are put back as they were."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from compress.accuracy_control.dynamic_layers import add_in_float, dynamic_layers
from compress.accuracy_control.quantized_graph import (
    WEIGHTED,
    QuantizedGraph,
    data_inputs,
    dequantized,
    drop_unread,
    sort,
    spread,
)

if TYPE_CHECKING:
    import onnx

ACTIVATIONS = ("Relu", "Clip")
"""ONNX Runtime's quantizer drops these where the QuantizeLinear behind them clamps anyway."""
STEPS = 1.01
"""How many quantization steps a weight may lie from the float model's to be that weight: rounding either way is 1."""

SMOOTHING = "smooth_quant"
"""In the name of a product that NNCF put before a layer, whose weights it divided."""
RENAMED = "_QuantizeLinear_Input"
"""ONNX Runtime's ending for a tensor whose own name went to the DequantizeLinear behind it: an output of the model."""


def weighted_nodes(quantized: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the quantized nodes that multiply (Conv, ConvTranspose, Gemm, MatMul), in the order of execution."""
    graph = QuantizedGraph(quantized)
    return tuple(node.name for node in graph.quantized if node.op_type in WEIGHTED)


def quantized_nodes(quantized: onnx.ModelProto) -> tuple[str, ...]:
    """Names of all nodes whose data comes from DequantizeLinear, the weighted ones among them, in order of execution."""
    return tuple(node.name for node in QuantizedGraph(quantized).quantized)


def give_back(quantized: onnx.ModelProto, nodes: Collection[str], original: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a quantized model in which the named nodes run in float.

    They read their activations before QuantizeLinear, and the float model's weights and biases. Where a weight is not the
    float model's within a quantization step (layers were equalized or smoothed into each other), it stays the dequantized
    one, which belongs to the activations that the quantized model has. Q/DQ left without a reader vanish, also those that
    only float nodes read; what quantized nodes read stays.

    Args:
        quantized: by NNCF or ONNX Runtime, with the node names of `original`.
        nodes: of `quantized_nodes`, or layers of `dynamic_layers`.
        original: the float model that was quantized.

    Raises:
        ValueError: if a name is not of a quantized node.
    """
    import onnx

    result = onnx.ModelProto()
    result.CopyFrom(quantized)
    graph, source = QuantizedGraph(result), QuantizedGraph(original)
    named = {node.name: node for node in graph.quantized}
    dynamic = {layer.layer: layer for layer in dynamic_layers(graph, source)}
    unknown = sorted(set(nodes) - set(named) - set(dynamic))
    if unknown:
        allowed = ", ".join([*named, *dynamic])
        raise ValueError(f"give_back: found {', '.join(unknown)}, allowed: the quantized nodes {allowed}")
    static = [name for name in nodes if name in named]
    kept = set(named) - set(static)
    read = {name for node in static for name in named[node].input}
    made = {name for node in static for name in named[node].output}
    for name in static:
        return_to_float(named[name], graph, source)
    for name in dynamic.keys() & set(nodes):
        written = list(dynamic[name].result.output)
        graph.proto.node.remove(dynamic[name].result)
        add_in_float(dynamic[name], written, graph, source)
    for pair in graph.activation_pairs():
        tensor = graph.made[pair.input[0]].input[0]
        if tensor in made or (pair.output[0] in read and not _readers(pair.output[0], graph) & kept):
            _bypass(pair, with_activation(tensor, graph, source), kept, graph)
    drop_unread(result.graph)
    sort(result.graph)
    return result


def return_to_float(node: onnx.NodeProto, graph: QuantizedGraph, source: QuantizedGraph) -> None:
    """Let a node read what it reads in the float model, as far as that belongs together."""
    pairs = {index: pair for index, name in enumerate(node.input) if (pair := graph.pair(name)) is not None}
    weights = {index: pair for index, pair in pairs.items() if pair.input[0] in graph.constants}
    activations = {index: pair for index, pair in pairs.items() if index not in weights}
    twin = source.named.get(node.name)
    read = list(twin.input) if twin is not None and twin.op_type == node.op_type else []
    unscaled = _unscaled(node, activations, graph)
    originals = {index: name for index, name in enumerate(read) if name in source.constants}
    data_weights = [index for index in weights if index < data_inputs(node)]
    theirs = all(
        index in originals and _is_rounded(weights[index], source.array(originals[index]), unscaled, node, graph)
        for index in data_weights
    ) and bool(read)
    for index, pair in activations.items():
        tensor = graph.made[pair.input[0]].input[0]
        node.input[index] = with_activation(unscaled.tensor if theirs and unscaled else tensor, graph, source)
    for index, name in enumerate(node.input):
        if theirs and index in originals and (index in weights or name in graph.constants):
            node.input[index] = graph.add_constant(originals[index], source.array(originals[index]))
        elif index in weights:
            node.input[index] = graph.add_constant(f"{name}_float", dequantized(weights[index], graph))


@dataclass(frozen=True)
class _Unscaled:
    """The activation before a product that smoothing put in: its name, and the factor of each input channel."""

    tensor: str
    factors: np.ndarray


def _unscaled(
    node: onnx.NodeProto, activations: Mapping[int, onnx.NodeProto], graph: QuantizedGraph
) -> _Unscaled | None:
    """What a node's activation was before NNCF's SmoothQuant multiplied it; None where it did not."""
    if node.op_type not in WEIGHTED or list(activations) != [0]:
        return None
    maker = graph.made.get(graph.made[activations[0].input[0]].input[0])
    if maker is None or maker.op_type != "Mul" or SMOOTHING not in maker.name or maker.input[1] not in graph.constants:
        return None
    return _Unscaled(maker.input[0], graph.array(maker.input[1]).reshape(-1))


def _is_rounded(
    pair: onnx.NodeProto, values: np.ndarray, unscaled: _Unscaled | None, node: onnx.NodeProto, graph: QuantizedGraph
) -> bool:
    """Whether a quantized constant is `values`, rounded; entries at the ends of the range may have been clipped."""
    quantized = graph.array(pair.input[0])
    if quantized.shape != values.shape:
        return False
    factors = _factors(unscaled, node, values) if unscaled else np.float32(1.0)
    step = spread(graph.array(pair.input[1]), quantized, pair)
    off = np.abs(dequantized(pair, graph) - values / factors) > STEPS * step
    integers = quantized.astype(np.int32)
    clipped = (integers == integers.max()) | (integers == integers.min())
    return not bool((off & ~clipped).any())


def _factors(unscaled: _Unscaled, node: onnx.NodeProto, weight: np.ndarray) -> np.ndarray:
    """A factor for each input channel, shaped so that it multiplies the weight along that axis."""
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    axis = {"Conv": 1, "ConvTranspose": 0, "Gemm": 1 if transposed else 0}.get(node.op_type, weight.ndim - 2)
    shape = [1] * weight.ndim
    shape[axis] = -1
    return unscaled.factors.reshape(shape)


def with_activation(tensor: str, graph: QuantizedGraph, source: QuantizedGraph) -> str:
    """A tensor of the quantized model as the float model has it: a dropped Relu or Clip is put back."""
    was, now = source.made.get(tensor.removesuffix(RENAMED)), graph.made.get(tensor)
    if was is None or now is None or was.op_type not in ACTIVATIONS or was.op_type == now.op_type:
        return tensor
    restored = f"{tensor}_{was.op_type}"
    if restored not in graph.made:
        activation = type(was)()
        activation.CopyFrom(was)
        bounds = [graph.add_constant(name, source.array(name)) if name else "" for name in was.input[1:]]
        activation.name = restored
        activation.input[:] = [tensor, *bounds]
        activation.output[:] = [restored]
        graph.add(activation)
    return restored


def _bypass(pair: onnx.NodeProto, tensor: str, kept: Collection[str], graph: QuantizedGraph) -> None:
    """Let every node that runs in float read `tensor` in place of what a Q/DQ pair makes of it; an output of the model too."""
    from onnx import helper

    behind = pair.output[0]
    for reader in graph.proto.node:
        if reader.name not in kept:
            reader.input[:] = [tensor if name == behind else name for name in reader.input]
    if any(behind == output.name for output in graph.proto.output) and not _readers(behind, graph):
        graph.proto.node.remove(pair)
        graph.add(helper.make_node("Identity", [tensor], [behind], name=f"{behind}_float"))


def _readers(tensor: str, graph: QuantizedGraph) -> set[str]:
    return {node.name for node in graph.proto.node if tensor in node.input}
