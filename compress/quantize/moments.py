"""Second moments of a layer's quantized inputs against its float outputs: all that rounding and bias need to know of data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.quantize.activations import activations
from compress.quantize.layers import Layer, QdqModel
from targets.base import Arrays

if TYPE_CHECKING:
    import onnx

POSITIONS = 64
"""Places of a feature map that each sample contributes, drawn anew for each batch."""


@dataclass
class Moments:
    """Sums over all positions of all samples; their size is the layer's, however many samples there are.

    Args:
        x: of the quantized inputs, (groups, inputs).
        y: of the float outputs, bias included, (channels,).
        xx: (groups, inputs, inputs); yx: (channels, inputs).
    """

    count: int
    x: np.ndarray
    y: np.ndarray
    xx: np.ndarray
    yx: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """Of the inputs: (groups, inputs, inputs)."""
        mean = self.x / self.count
        return self.xx / self.count - mean[:, :, None] * mean[:, None, :]

    @property
    def cross_covariance(self) -> np.ndarray:
        """Of outputs and inputs: (channels, inputs)."""
        mean = np.repeat(self.x / self.count, len(self.y) // len(self.x), axis=0)
        return self.yx / self.count - (self.y / self.count)[:, None] * mean

    def best_bias(self, weight: np.ndarray) -> np.ndarray:
        """The bias with which `weight` (channels, inputs) has the float outputs' mean."""
        mean = np.repeat(self.x, len(self.y) // len(self.x), axis=0)
        return np.asarray((self.y - (weight * mean).sum(axis=1)) / self.count)


def gather(
    quantized: QdqModel, original: onnx.ModelProto, layers: Sequence[Layer], samples: Iterable[Arrays]
) -> dict[str, Moments]:
    """The moments of each layer by its node's name; both models see every sample once, one after the other."""
    outputs = float_outputs(layers, original)
    made: dict[str, Moments] = {}
    random = np.random.default_rng(0)
    quantized_side = activations(quantized.proto, list({layer.source for layer in layers}), samples)
    float_side = activations(original, list(outputs.values()), samples)
    for (_, sources), (_, targets) in zip(quantized_side, float_side, strict=True):
        for layer in layers:
            columns, wanted = _columns(layer, sources[layer.source], targets[outputs[layer.node]], quantized, random)
            _add(made, layer.node, columns, wanted)
    return made


def float_outputs(layers: Sequence[Layer], original: onnx.ModelProto) -> dict[str, str]:
    """For each layer's node the tensor of the float model that its output stands for: of a MatMul with its bias, the sum."""
    made = {node.name: node.output[0] for node in original.graph.node}
    read = {name: node for node in original.graph.node for name in node.input}
    return {
        layer.node: read[made[layer.node]].output[0] if layer.operator == "MatMul" and layer.bias else made[layer.node]
        for layer in layers
    }


def _add(made: dict[str, Moments], name: str, columns: np.ndarray, wanted: np.ndarray) -> None:
    """columns: (groups, positions, inputs); wanted: (positions, channels)."""
    groups, _, inputs = columns.shape
    if name not in made:
        channels = wanted.shape[1]
        made[name] = Moments(
            0,
            np.zeros((groups, inputs)),
            np.zeros(channels),
            np.zeros((groups, inputs, inputs)),
            np.zeros((channels, inputs)),
        )
    sums = made[name]
    by_group = wanted.reshape(len(wanted), groups, -1).transpose(1, 2, 0)
    sums.count += len(wanted)
    sums.x += columns.sum(axis=1)
    sums.y += wanted.sum(axis=0)
    sums.xx += columns.transpose(0, 2, 1) @ columns
    sums.yx += (by_group @ columns).reshape(-1, inputs)


def _columns(
    layer: Layer, source: np.ndarray, target: np.ndarray, quantized: QdqModel, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (groups, positions, inputs) and outputs (positions, channels) of a layer at drawn positions."""
    if layer.operator != "Conv":
        rows = source.T if layer.attributes.get("transA", 0) else source
        rows, wanted = rows.reshape(-1, rows.shape[-1]), target.reshape(-1, target.shape[-1])
        chosen = random.permutation(len(rows))[: POSITIONS * max(1, len(source))]
        return rows[chosen][None], wanted[chosen]
    import torch
    from torch.nn import functional

    shape = quantized.tensors[layer.weight].dims
    kernel, groups = tuple(shape[2:]), int(layer.attributes.get("group", 1))
    rank = len(kernel)
    pads = _pads(layer, source.shape[2:], target.shape[2:], kernel)
    sides = [pads[axis + side * rank] for axis in reversed(range(rank)) for side in (0, 1)]
    padded = functional.pad(torch.from_numpy(np.ascontiguousarray(source)), sides)
    strides = layer.attributes.get("strides", [1] * rank)
    dilations = layer.attributes.get("dilations", [1] * rank)
    batch, channels = padded.shape[:2]
    spots = int(np.prod(target.shape[2:]))
    chosen = np.sort(random.permutation(spots)[:POSITIONS])
    places = np.unravel_index(chosen, target.shape[2:])
    offsets = np.stack(np.meshgrid(*(np.arange(extent) for extent in kernel), indexing="ij")).reshape(rank, -1)
    index = [
        torch.from_numpy(places[axis][:, None] * strides[axis] + offsets[axis][None, :] * dilations[axis])
        for axis in range(rank)
    ]
    everything: tuple[Any, ...] = (slice(None), slice(None), *index)
    taken = padded[everything]  # (batch, channels, positions, kernel)
    taken = taken.reshape(batch, groups, channels // groups, len(chosen), -1).permute(1, 0, 3, 2, 4)
    wanted = target.reshape(batch, target.shape[1], spots)[:, :, chosen]
    return taken.reshape(groups, batch * len(chosen), -1).numpy(), wanted.transpose(0, 2, 1).reshape(
        -1, target.shape[1]
    )


def _pads(layer: Layer, source: tuple[int, ...], target: tuple[int, ...], kernel: tuple[int, ...]) -> list[int]:
    """Begins of all axes, then ends, also where the convolution asks for them by `auto_pad`."""
    rank = len(kernel)
    mode = layer.attributes.get("auto_pad", b"NOTSET")
    if mode not in (b"SAME_UPPER", b"SAME_LOWER"):
        return list(layer.attributes.get("pads", [0] * 2 * rank))
    strides = layer.attributes.get("strides", [1] * rank)
    dilations = layer.attributes.get("dilations", [1] * rank)
    total = [
        max(0, (target[axis] - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1 - source[axis])
        for axis in range(rank)
    ]
    smaller, larger = [each // 2 for each in total], [each - each // 2 for each in total]
    return smaller + larger if mode == b"SAME_UPPER" else larger + smaller
