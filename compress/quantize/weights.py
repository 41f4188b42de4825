"""Weights of a Q/DQ model quantized anew: fewer bits, and scales that minimise the squared error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from compress.quantize.layers import Layer, QdqModel

if TYPE_CHECKING:
    import onnx

SHARES = np.linspace(0.4, 1.0, 61)
"""Of the largest weight of a channel: candidates for what the largest integer stands for."""


def requantize_weights(quantized: QdqModel, original: onnx.ModelProto, bits: int) -> None:
    """Hold each layer's weight in `bits`, stored in 8, with the scale of each channel that minimises its squared error.

    Values of 4 bits lie in -8..7; for weights stored unsigned, around their zero point.
    """
    by_name = {node.name: node for node in original.graph.node}
    constants = {tensor.name: tensor for tensor in original.graph.initializer}
    for layer in quantized.layers:
        weight = float_weight(layer, by_name, constants)
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        scales = best_scales(weight, low, high)
        if quantized.array(layer.scale).size == 1:
            scales = np.full_like(scales, best_scales(weight.reshape(1, -1), low, high)[0])
        quantized.set_scales(layer, scales[:1] if quantized.array(layer.scale).size == 1 else scales)
        quantized.set_integers(layer, np.clip(np.round(weight / scales[:, None]), low, high))


def best_scales(weight: np.ndarray, low: int, high: int) -> np.ndarray:
    """For each row of `weight` the scale whose integers in [low, high] are closest to it, in the sum of squares."""
    largest = np.maximum(np.abs(weight).max(axis=1), 1e-12)
    errors = []
    for share in SHARES:
        scales = (share * largest / (high + 0.5))[:, None]
        integers = np.clip(np.round(weight / scales), low, high)
        errors.append(((integers * scales - weight) ** 2).sum(axis=1))
    return np.asarray(SHARES[np.argmin(errors, axis=0)] * largest / (high + 0.5))


def float_weight(
    layer: Layer, by_name: Mapping[str, onnx.NodeProto], constants: Mapping[str, onnx.TensorProto]
) -> np.ndarray:
    """The weight of the layer's node in the float model: (channels, inputs), float64."""
    from onnx import numpy_helper

    return layer.rows(numpy_helper.to_array(constants[by_name[layer.node].input[1]])).astype(np.float64)


def integer_limits(quantized: QdqModel, layer: Layer, bits: int, reduced: bool) -> tuple[np.ndarray, np.ndarray]:
    """The least and largest integer that each channel's weights may take, without the zero point: (channels, 1) each.

    Args:
        reduced: weights of 8 bits keep to the 7 that their quantizer gave them.
    """
    limit = 2 ** (bits - 1)
    if bits == 8 and reduced:
        limit = limit // 2
    shape = (len(quantized.scales(layer)), 1)
    return np.full(shape, -limit), np.full(shape, limit - (0 if reduced and bits == 8 else 1))
