"""A convolution or linear layer as a matrix product: one row a position, one column an input of one output."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


def is_layer(module: nn.Module) -> bool:
    """Whether this file knows the module: a plain linear layer or convolution, not a subclass with its own ways."""
    return type(module) in (nn.Linear, *CONVOLUTIONS)


def shape_of(layer: Layer) -> tuple[int, int, int]:
    """Groups, columns and outputs of one group."""
    groups = layer.groups if isinstance(layer, CONVOLUTIONS) else 1
    return groups, layer.weight[0].numel(), layer.weight.shape[0] // groups


def outputs_at(layer: Layer, outputs: Tensor, positions: Tensor) -> Tensor:
    """What a layer gives at some positions, shape (rows, channels); positions count over batch and space."""
    last = outputs.movedim(1, -1) if isinstance(layer, CONVOLUTIONS) else outputs
    return last.reshape(-1, last.shape[-1])[positions]


def inputs_at(layer: Layer, inputs: Tensor, positions: Tensor) -> Tensor:
    """What a layer reads for some positions of its output, shape (rows, groups, columns)."""
    if not isinstance(layer, CONVOLUTIONS):
        return inputs.reshape(-1, inputs.shape[-1])[positions].unsqueeze(1)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    windows = functional.pad(inputs, layer._reversed_padding_repeated_twice, mode)
    for axis, (size, step, dilation) in enumerate(zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)):
        windows = windows.unfold(2 + axis, dilation * (size - 1) + 1, step)[..., ::dilation]
    space = len(layer.kernel_size)
    places = torch.unravel_index(positions, (windows.shape[0], *windows.shape[2 : 2 + space]))
    return windows.movedim(1, 1 + space)[places].reshape(len(positions), layer.groups, -1)


def add_to_weight(layer: Layer, change: Tensor) -> None:
    """Add a change, shape (groups, columns, outputs), to the weight in place."""
    with torch.no_grad():
        layer.weight += change.transpose(1, 2).reshape(layer.weight.shape).to(layer.weight)
