"""New ranges for the activations of a Q/DQ model that another quantizer made: its nodes stay, their scales change."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from compress.quantize.activations import observe
from compress.quantize.histogram import Histogram
from compress.quantize.layers import QdqModel
from compress.quantize.ranges import chosen_range
from targets.base import Arrays, Ranges

if TYPE_CHECKING:
    import onnx


def rescale_activations(
    quantized: QdqModel, original: onnx.ModelProto, samples: Iterable[Arrays], method: Ranges
) -> dict[str, Histogram]:
    """Give each QuantizeLinear of an activation the range that its float tensor has on `samples`.

    What shared a scale and zero point still shares one, over the values of all: runtimes run a concatenation in integers
    only if its inputs agree. Signed integers keep the zero point 0, unsigned ones take what fits.

    Returns:
        What was observed, by the float model's tensors.
    """
    known = {name for node in original.graph.node for name in node.output} | {
        value.name for value in original.graph.input
    }
    groups: dict[tuple[float, int, str], list[onnx.NodeProto]] = defaultdict(list)
    for node in quantized.proto.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in known and quantized.array(node.input[1]).size == 1:
            zero = quantized.array(node.input[2])
            groups[float(quantized.array(node.input[1])), int(zero), zero.dtype.name].append(node)
    histograms = observe(original, {node.input[0] for nodes in groups.values() for node in nodes}, samples)
    for (_, _, kind), nodes in groups.items():
        histogram = reduce(Histogram.merge, [histograms[name] for name in {node.input[0] for node in nodes}])
        scale, zero_point = parameters(*chosen_range(histogram, method, 256, kind == "int8"), kind)
        for name in {name for node in nodes for name in node.input[1:2]}:
            quantized.put(name, np.array(scale, np.float32).reshape(quantized.array(name).shape))
        for name in {name for node in nodes for name in node.input[2:3]}:
            quantized.put(name, np.array(zero_point, kind).reshape(quantized.array(name).shape))
    return histograms


def parameters(low: float, high: float, kind: str) -> tuple[float, int]:
    """Scale and zero point of 8-bit integers that cover [low, high], which holds 0."""
    if kind == "int8":
        return max(max(-low, high) / 127, 1e-12), 0
    scale = max((high - low) / 255, 1e-12)
    return scale, round(-low / scale)
