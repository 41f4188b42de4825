"""What kind of network an ONNX graph holds: the little that the choice of an INT8 scheme depends on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_FUSED_ATTENTION = frozenset({"Attention", "MultiHeadAttention", "GroupQueryAttention"})
_BETWEEN = frozenset(
    {"Add", "Sub", "Mul", "Div", "Where", "Cast", "CastLike", "Identity", "Dropout", "Reshape", "Transpose", "IsNaN"}
)
"""What may stand between an attention's two products and its softmax: scaling, masking, layout."""


def has_attention(graph: onnx.GraphProto) -> bool:
    """Whether a Softmax stands between two products, as in every transformer."""
    if any(node.op_type in _FUSED_ATTENTION for node in graph.node):
        return True
    consumers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    producers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        producers.update({name: [node] for name in node.output})
        for name in node.input:
            consumers[name].append(node)
    return any(
        _reaches_product(node.output, consumers, forward=True)
        and _reaches_product(node.input, producers, forward=False)
        for node in graph.node
        if node.op_type == "Softmax"
    )


def has_convolution(graph: onnx.GraphProto) -> bool:
    return any(node.op_type in ("Conv", "ConvTranspose") for node in graph.node)


def _reaches_product(names: Iterable[str], edges: Mapping[str, list[onnx.NodeProto]], *, forward: bool) -> bool:
    """Whether a MatMul is met when walking from these tensors through nothing but scaling, masking and layout."""
    pending, seen = list(names), set[str]()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        for node in edges.get(name, ()):
            if node.op_type in ("MatMul", "Gemm", "Einsum"):
                return True
            if node.op_type in _BETWEEN:
                pending.extend(node.output if forward else node.input)
    return False
