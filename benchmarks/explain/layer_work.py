"""What one executed operator has to do, from its shapes: multiply-adds, also with channels padded, and bytes to move."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from targets import LayerTime

LANES = 16
"""Channels that CPU kernels work on at a time: two AVX2 registers or one of AVX-512 in FP32."""
FEW = 4
"""Input channels up to which runtimes have kernels that do not pad: a picture's three colours."""

CONVOLUTIONS = frozenset(
    {"Convolution", "GroupConvolution", "Conv", "FusedConv", "NhwcFusedConv", "QLinearConv", "ConvInteger"}
)
MATMULS = frozenset(
    {"MatMul", "Gemm", "FullyConnected", "FullyConnectedQuantizedLegacy", "FusedMatMul", "FusedGemm", "QGemm"}
    | {"QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"}
)
CONVERSIONS = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "FakeQuantize", "Quantize", "Dequantize"}
    | {"Reorder", "ReorderInput", "ReorderOutput", "Convert", "Cast"}
)
"""Operators that only change the form of numbers: quantize, dequantize, lay out anew."""
_WIDTH_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Work:
    """Of one layer. `kind` is "other" where it multiplies no matrices or its shapes are not known: `macs` is then 0.

    `channels_in` are those of one group, for a matrix product the length of its sums; `channels_out` are all.
    Bytes assume that all tensors have the width of the layer's precision, and each is moved once.
    """

    kind: Literal["convolution", "matmul", "other"] = "other"
    macs: int = 0
    padded_macs: int = 0
    channels_in: int = 0
    channels_out: int = 0
    groups: int = 1
    weight_bytes: int = 0
    activation_bytes: int = 0

    @property
    def padding(self) -> float:
        """Share of the padded multiply-adds that pad: 20 channels in a row of 32 waste 0.375."""
        return 1 - self.macs / self.padded_macs if self.padded_macs else 0.0


def work_of(layer: LayerTime) -> Work:
    """What a layer has to do."""
    width = _WIDTH_BYTES.get(layer.precision, 4)
    moved = width * sum(map(math.prod, (*filter(None, layer.inputs), *layer.outputs)))
    if not layer.inputs or not layer.outputs or not layer.outputs[0]:
        return Work()
    if layer.operator in CONVOLUTIONS:
        return _convolution(layer, width, moved)
    if layer.operator in MATMULS:
        return _matmul(layer, width, moved)
    return Work(activation_bytes=moved)


def padded(channels: int) -> int:
    """The next multiple of LANES."""
    return -(-channels // LANES) * LANES


def _convolution(layer: LayerTime, width: int, moved: int) -> Work:
    """Weights are (out, in of a group, *kernel), in OpenVINO's grouped form (groups, out of a group, in of a group, *kernel)."""
    taken, made = layer.inputs[0], layer.outputs[0]
    weight = next((shape for shape in layer.inputs[1:] if len(shape) in (len(made), len(made) + 1)), None)
    if weight is None or len(made) < 3:
        return Work(activation_bytes=moved)
    if len(weight) > len(made):
        weight = (weight[0] * weight[1], *weight[2:])
    channels_out, channels_in, kernel = weight[0], weight[1], math.prod(weight[2:])
    of_input = taken[1] if made[1] == channels_out else taken[-1]
    groups = max(1, of_input // channels_in)
    rows = math.prod(made) // channels_out * kernel
    depth = channels_in if channels_in <= FEW else padded(channels_in)
    weight_bytes = width * math.prod(weight)
    return Work(
        "convolution",
        macs=rows * channels_in * channels_out,
        padded_macs=rows * depth * padded(channels_out),
        channels_in=channels_in,
        channels_out=channels_out,
        groups=groups,
        weight_bytes=weight_bytes,
        activation_bytes=moved - weight_bytes,
    )


def _matmul(layer: LayerTime, width: int, moved: int) -> Work:
    """(..., rows, in) times (..., in, out). Constant weights have two axes."""
    taken, made = layer.inputs[0], layer.outputs[0]
    if len(taken) < 2:
        return Work(activation_bytes=moved)
    channels_out, rows = made[-1], math.prod(made[:-1])
    channels_in = taken[-1] if math.prod(taken[:-1]) == rows else taken[-2]
    constant = any(len(shape) == 2 and math.prod(shape) == channels_in * channels_out for shape in layer.inputs[1:])
    weight_bytes = width * channels_in * channels_out if constant else 0
    return Work(
        "matmul",
        macs=rows * channels_in * channels_out,
        padded_macs=rows * padded(channels_in) * padded(channels_out),
        channels_in=channels_in,
        channels_out=channels_out,
        weight_bytes=weight_bytes,
        activation_bytes=moved - weight_bytes,
    )
