"""Layers of ONNX Runtime's dynamic INT8: found by what its quantizer calls them, and put back in float.

It makes of y = MatMul(x, W), named n: DynamicQuantizeLinear of x, a MatMulInteger named n_quant, a Cast, and a Mul by both
scales that writes y. A Gemm becomes a MatMul named n_MatMul before that, and an Add. An LSTM named n becomes a
DynamicQuantizeLSTM named n_quant, which quantizes inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from compress.accuracy_control.quantized_graph import QuantizedGraph

if TYPE_CHECKING:
    import onnx

_QUANTIZED, _OF_GEMM = "_quant", "_MatMul"
RECURRENT = "DynamicQuantizeLSTM"
WEIGHTS = (1, 2)
"""Places of the weights among the inputs of an LSTM; what is behind them up to place 7 stays as it is."""


@dataclass(frozen=True)
class DynamicLayer:
    """One layer with ranges taken at run time.

    Args:
        layer: name of its node in the float model.
        operator: of that node.
        result: the node that writes what the layer gives: a Mul, or the DynamicQuantizeLSTM itself.
        activation: the tensor that is quantized at run time.
        transposed: whether the float model multiplies by the transpose of its weight.
    """

    layer: str
    operator: str
    result: onnx.NodeProto
    activation: str
    transposed: bool = False


def dynamic_layers(graph: QuantizedGraph, source: QuantizedGraph) -> list[DynamicLayer]:
    """Those of a model whose weights the float model (`source`) holds, in order of execution."""
    readers = {name: node for node in graph.proto.node for name in node.input}
    found: list[DynamicLayer | None] = []
    for node in graph.proto.node:
        if node.op_type == "MatMulInteger":
            found.append(_product(node, graph, source, readers))
        elif node.op_type == RECURRENT and float_names(node.name)[0] in source.named:
            found.append(DynamicLayer(float_names(node.name)[0], "LSTM", node, node.input[0]))
    return [layer for layer in found if layer is not None]


def float_names(quantized: str) -> tuple[str, str]:
    """What the node of the float model may be called that a quantized one stands for: a MatMul or LSTM, or else a Gemm."""
    name = quantized.removesuffix(_QUANTIZED)
    return name, name.removesuffix(_OF_GEMM)


def written(layer: DynamicLayer) -> Iterator[tuple[int, str]]:
    """The places and names of what the layer gives to others."""
    return ((place, name) for place, name in enumerate(layer.result.output) if name)


def add_in_float(layer: DynamicLayer, outputs: Sequence[str], graph: QuantizedGraph, source: QuantizedGraph) -> None:
    """The layer with the float model's weights, named as there, that writes `outputs`."""
    from onnx import helper

    twin = source.named[layer.layer]
    if layer.operator == "LSTM":
        graph.add(_lstm(twin, layer, outputs, graph, source))
        return
    values = source.array(twin.input[1])
    weight = graph.add_constant(twin.input[1], np.ascontiguousarray(values.T) if layer.transposed else values)
    graph.add(helper.make_node("MatMul", [layer.activation, weight], list(outputs), name=layer.layer))


def _product(
    node: onnx.NodeProto, graph: QuantizedGraph, source: QuantizedGraph, readers: dict[str, onnx.NodeProto]
) -> DynamicLayer | None:
    layer = next((name for name in float_names(node.name) if name in source.named), "")
    maker = graph.made.get(node.input[0]) if layer else None
    if maker is None or maker.op_type != "DynamicQuantizeLinear":
        return None
    twin, cast = source.named[layer], readers.get(node.output[0])
    result = readers.get(cast.output[0]) if cast is not None else None
    if result is None or result.op_type != "Mul" or twin.input[1] not in source.constants:
        return None
    transposed = any(attribute.name == "transB" and attribute.i for attribute in twin.attribute)
    return DynamicLayer(layer, twin.op_type, result, maker.input[0], transposed)


def _lstm(
    twin: onnx.NodeProto, layer: DynamicLayer, outputs: Sequence[str], graph: QuantizedGraph, source: QuantizedGraph
) -> onnx.NodeProto:
    import onnx

    node = onnx.NodeProto()
    node.CopyFrom(twin)
    node.output[:] = outputs
    node.input[:] = [
        graph.add_constant(name, source.array(name)) if place in WEIGHTS else layer.result.input[place]
        for place, name in enumerate(twin.input)
    ]
    return node
