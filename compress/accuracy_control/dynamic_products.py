"""Matrix products of ONNX Runtime's dynamic INT8: found by what its quantizer calls them, and put back in float.

It makes of y = MatMul(x, W), named n: DynamicQuantizeLinear of x, a MatMulInteger named n_quant, a Cast, and a Mul by both
scales that writes y. A Gemm becomes a MatMul named n_MatMul before that, and an Add.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from compress.accuracy_control.quantized_graph import QuantizedGraph

if TYPE_CHECKING:
    import onnx

_QUANTIZED, _OF_GEMM = "_quant", "_MatMul"


@dataclass(frozen=True)
class DynamicProduct:
    """One product with ranges taken at run time.

    Args:
        layer: name of its node in the float model.
        operator: of that node.
        result: the Mul that writes the product.
        activation: the tensor that is quantized at run time.
        weight: name of the float model's weight.
        transposed: whether the float model multiplies by the transpose of its weight.
    """

    layer: str
    operator: str
    result: onnx.NodeProto
    activation: str
    weight: str
    transposed: bool


def dynamic_products(graph: QuantizedGraph, source: QuantizedGraph) -> list[DynamicProduct]:
    """Those of a model whose weights the float model (`source`) holds, in order of execution."""
    readers = {name: node for node in graph.proto.node for name in node.input}
    found = []
    for node in graph.proto.node:
        names = float_names(node.name) if node.op_type == "MatMulInteger" else ()
        layer = next((name for name in names if name in source.named), "")
        maker = graph.made.get(node.input[0]) if layer else None
        if maker is None or maker.op_type != "DynamicQuantizeLinear":
            continue
        twin, cast = source.named[layer], readers.get(node.output[0])
        result = readers.get(cast.output[0]) if cast is not None else None
        if result is not None and result.op_type == "Mul" and twin.input[1] in source.constants:
            transposed = any(attribute.name == "transB" and attribute.i for attribute in twin.attribute)
            found.append(DynamicProduct(layer, twin.op_type, result, maker.input[0], twin.input[1], transposed))
    return found


def float_names(quantized: str) -> tuple[str, str]:
    """What the node of the float model may be called that a MatMulInteger stands for: a MatMul, or else a Gemm."""
    name = quantized.removesuffix(_QUANTIZED)
    return name, name.removesuffix(_OF_GEMM)


def add_float_product(product: DynamicProduct, output: str, graph: QuantizedGraph, source: QuantizedGraph) -> None:
    """A MatMul of the float weight, named as the layer, that writes `output`."""
    from onnx import helper

    values = source.array(product.weight)
    weight = graph.add_constant(product.weight, np.ascontiguousarray(values.T) if product.transposed else values)
    graph.add(helper.make_node("MatMul", [product.activation, weight], [output], name=product.layer))
