"""Embeddings in 8 bits, for runtimes whose quantizer of weights leaves them in float; one that shares its weight with a product
(tied to the output of a language model) reads the product's bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

SMALLEST = 4096
"""Numbers in a table from which on it is worth the nodes."""
ZERO = 128
"""What stands for 0 in MatMulNBits's 8 bits, and here."""


def tied_products(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """The name of each embedding's node whose table (words, width) is, transposed, the weight of a MatMul -> that MatMul."""
    from onnx import numpy_helper

    weights = {tensor.name: tensor for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    found = {}
    for node in embeddings(graph):
        table = numpy_helper.to_array(weights[node.input[0]])
        for product in products:
            weight = weights[product.input[1]]
            if tuple(weight.dims) == table.shape[::-1] and np.array_equal(numpy_helper.to_array(weight).T, table):
                found[node.name] = product
                break
    return found


def embeddings(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes that look rows up in a float table worth shrinking."""
    import onnx

    tables = {
        tensor.name
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 2 and np.prod(tensor.dims) >= SMALLEST
    }
    return [
        node
        for node in graph.node
        if node.op_type == "Gather" and node.input[0] in tables and not any(attr.i for attr in node.attribute)
    ]


def with_small_embeddings(model: onnx.ModelProto, tied: Mapping[str, str]) -> onnx.ModelProto:
    """Each embedding looked up in 8 bits, in place: in the weight of the MatMulNBits that it is tied to, else in a table of its own
    with a scale for each row.

    Args:
        tied: the embedding's node -> the product's output.
    """
    graph = model.graph
    products = {node.output[0]: node for node in graph.node if node.op_type == "MatMulNBits"}
    small = {node.name: products.get(tied.get(node.name, "")) for node in embeddings(graph)}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes.extend(_looked_up(node, graph, small[node.name]) if node.name in small else [node])
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return model


def _looked_up(
    node: onnx.NodeProto, graph: onnx.GraphProto, product: onnx.NodeProto | None
) -> Iterator[onnx.NodeProto]:
    """(bytes - 128) * scale of the rows asked for, as (..., blocks, block), then as (..., width)."""
    from onnx import TensorProto, helper, numpy_helper

    name, words = node.output[0], node.input[1]
    constants = {tensor.name: tensor for tensor in graph.initializer}
    table = numpy_helper.to_array(constants[node.input[0]])
    if product is None or np.prod(constants[product.input[1]].dims[1:]) != table.shape[1]:  # padded to whole blocks
        size = np.maximum(np.abs(table).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
        codes = np.clip(np.rint(table / size * 127) + ZERO, 1, 255).astype(np.uint8)
        held, scales = f"{node.input[0]}.codes", (size / 127).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(codes[:, None], held))
    else:
        held = product.input[1]
        scales = numpy_helper.to_array(constants[product.input[2]]).reshape(len(table), -1)
    for suffix, array in (
        ("scales", scales[..., None]),
        ("zero", np.array(ZERO, np.float32)),
        ("width", np.array(table.shape[1:], np.int64)),
    ):
        graph.initializer.append(numpy_helper.from_array(array, f"{name}.{suffix}"))
    yield helper.make_node("Gather", [held, words], [f"{name}.codes"], name=f"{node.name}/codes")
    yield helper.make_node("Cast", [f"{name}.codes"], [f"{name}.float"], name=f"{node.name}/cast", to=TensorProto.FLOAT)
    yield helper.make_node("Sub", [f"{name}.float", f"{name}.zero"], [f"{name}.centred"], name=f"{node.name}/zero")
    yield helper.make_node("Gather", [f"{name}.scales", words], [f"{name}.scale"], name=f"{node.name}/scales")
    yield helper.make_node("Mul", [f"{name}.centred", f"{name}.scale"], [f"{name}.blocks"], name=f"{node.name}/scale")
    yield helper.make_node("Shape", [words], [f"{name}.places"], name=f"{node.name}/places")
    yield helper.make_node(
        "Concat", [f"{name}.places", f"{name}.width"], [f"{name}.shape"], name=f"{node.name}/shape", axis=0
    )
    yield helper.make_node("Reshape", [f"{name}.blocks", f"{name}.shape"], [name], name=node.name)
