"""Gemm as MatMul and Add: what quantizers of weights alone know how to read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx


def with_plain_products(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which each Gemm of a constant weight (x W + b, or x W^T + b) is a MatMul and an Add; others stay."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    weights = {tensor.name: tensor for tensor in copy.graph.initializer}
    nodes = [made for node in copy.graph.node for made in _plain(node, weights)]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input} | {value.name for value in copy.graph.output}
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(tensor for name, tensor in weights.items() if name in used)
    return copy


def _plain(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> Iterator[onnx.NodeProto]:
    """The nodes in the place of one; a weight that is read transposed is added to `weights` as it is read."""
    from onnx import helper, numpy_helper

    settings = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    scaled = settings.get("alpha", 1.0) != 1.0 or settings.get("beta", 1.0) != 1.0
    if node.op_type != "Gemm" or node.input[1] not in weights or scaled or settings.get("transA", 0):
        yield node
        return
    weight, bias = node.input[1], node.input[2] if len(node.input) > 2 else ""
    if settings.get("transB", 0):
        turned = np.ascontiguousarray(numpy_helper.to_array(weights[weight]).T)
        weight = f"{weight}.transposed"
        weights[weight] = numpy_helper.from_array(turned, weight)
    product = f"{node.output[0]}.product" if bias else node.output[0]
    yield helper.make_node("MatMul", [node.input[0], weight], [product], name=node.name)
    if bias:
        yield helper.make_node("Add", [product, bias], list(node.output), name=f"{node.name}/bias")
