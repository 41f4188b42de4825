"""The attention of a decoder that reads its cache, found in its ONNX graph, whatever quantizer has been there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from export.model import OnnxModel

if TYPE_CHECKING:
    import onnx

PAST, PRESENT = "past_", "present_"
"""How the names of a decoder's caches begin, as input and as output; see targets.generation."""


@dataclass(frozen=True)
class CachedAttention:
    """softmax(scale * query key^T + mask) value, by the names of its tensors in float.

    Args:
        key, value: the whole cache, what is new included: shape (batch, heads, tokens, width).
        scale: what keys and scores are multiplied by on their way; what `query` was multiplied by is in it already.
        output: of the second product, shape (batch, heads, new tokens, width).
    """

    query: str
    key: str
    value: str
    mask: str
    scale: float
    output: str


def keeps_cache(model: OnnxModel) -> bool:
    """Whether the model is a decoder whose caches are of shape (batch, heads, tokens, width), each of which (`past_key.0`)
    comes out with the new tokens (`present_key.0`)."""
    caches = [spec for spec in model.inputs if spec.name.startswith(PAST)]
    outputs = {spec.name for spec in model.outputs}
    return bool(caches) and all(
        spec.name.replace(PAST, PRESENT, 1) in outputs
        and [type(extent) for extent in spec.shape] == [str, int, str, int]
        for spec in caches
    )


def float_caches(graph: onnx.GraphProto) -> dict[str, str]:
    """Each `present_` output of a decoder -> the tensor that holds it before it was quantized."""
    reading = _Reading(graph)
    return {value.name: reading.unquantized(value.name) for value in graph.output if value.name.startswith(PRESENT)}


def cached_attention(graph: onnx.GraphProto) -> list[CachedAttention]:
    """Every attention over a cache that has the form in which torch's scaled_dot_product_attention is exported.

    QuantizeLinear and DequantizeLinear on the way are read past. Other forms are left out: keys that several queries share,
    scores that are clipped.
    """
    reading = _Reading(graph)
    caches = set(float_caches(graph).values())
    products = [node for node in graph.node if node.op_type == "MatMul"]
    found = [_read(product, reading, caches) for product in products]
    return [attention for attention in found if attention is not None]


def _read(product: onnx.NodeProto, reading: _Reading, caches: set[str]) -> CachedAttention | None:
    """The attention whose second product this is; None if it is none."""
    value = reading.unquantized(product.input[1])
    softmax = reading.maker(product.input[0], "Softmax")
    masked = reading.maker(softmax.input[0], "Add") if softmax else None
    if masked is None or value not in caches:
        return None
    for scores, mask in (tuple(masked.input), tuple(reversed(masked.input))):
        name, scale = reading.unscaled(scores)
        first = reading.maker(name, "MatMul")
        if first is None:
            continue
        key, scale_of_key = reading.untransposed(first.input[1])
        if key in caches:
            query = reading.unquantized(first.input[0])
            return CachedAttention(query, key, value, mask, scale * scale_of_key, product.output[0])
    return None


class _Reading:
    """A graph read from its outputs back."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._makers = {name: node for node in graph.node for name in node.output}
        self._constants = {tensor.name: tensor for tensor in graph.initializer}

    def maker(self, name: str, operator: str) -> onnx.NodeProto | None:
        """The node of this kind that a tensor comes from, quantized since or not."""
        node = self._makers.get(self.unquantized(name))
        return node if node is not None and node.op_type == operator else None

    def unquantized(self, name: str) -> str:
        while (node := self._makers.get(name)) is not None and node.op_type == "DequantizeLinear":
            quantize = self._makers.get(node.input[0])
            if quantize is None or quantize.op_type != "QuantizeLinear":
                break
            name = quantize.input[0]
        return name

    def unscaled(self, name: str) -> tuple[str, float]:
        """The tensor before it was multiplied or divided by numbers, and their product."""
        scale = 1.0
        while (node := self._makers.get(name := self.unquantized(name))) is not None:
            number = self._number(node.input[1]) if node.op_type in ("Mul", "Div") else None
            if number is None:
                break
            scale = scale * number if node.op_type == "Mul" else scale / number
            name = node.input[0]
        return name, scale

    def untransposed(self, name: str) -> tuple[str, float]:
        """The tensor whose last two axes were swapped, as 4 axes or as 3 (one of the first two folded into the other), and what
        it was multiplied by on its way; an empty name where it was not."""
        name, scale = self.unscaled(name)
        swaps = 0
        while (node := self._makers.get(name)) is not None and node.op_type in ("Reshape", "Transpose"):
            swaps += node.op_type == "Transpose"
            if node.op_type == "Transpose" and list(node.attribute[0].ints) not in ([0, 2, 1], [0, 1, 3, 2]):
                return "", 1.0
            name, more = self.unscaled(node.input[0])
            scale *= more
        return (name, scale) if swaps == 1 else ("", 1.0)

    def _number(self, name: str) -> float | None:
        from onnx import numpy_helper

        if name not in self._constants:
            return None
        values: np.ndarray = numpy_helper.to_array(self._constants[name])
        return float(values.reshape(-1)[0]) if values.size == 1 else None
