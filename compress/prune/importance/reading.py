"""Which weights read which channels: what a layer sums its inputs up along, and the modules that are called with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from compress.prune.channels import Group, Slice
from compress.prune.plan import named_tensors
from export.calling import call

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class Reading:
    """Which slices of a group are read: they lie in the axis of a weight along which a layer sums its inputs up."""

    def __init__(self, model: nn.Module) -> None:
        self.tensors = named_tensors(model)
        self._axes: dict[tuple[int, int], bool] = {}
        for module in model.modules():
            for weight in module.parameters(recurse=False):
                if weight.dim() >= 2 and not isinstance(module, nn.Embedding):
                    self._add(module, weight)

    def pieces(self, group: Group) -> list[Slice]:
        """What torch's own layers read of a group; where they read nothing, axis 1 of what other modules own."""
        found = {piece: self._axes.get((id(self.tensors[piece.tensor]), piece.dim)) for piece in group.slices}
        certain = [piece for piece, sure in found.items() if sure]
        return certain or [piece for piece, sure in found.items() if sure is not None]

    def _add(self, module: nn.Module, weight: Tensor) -> None:
        grouped = isinstance(module, TRANSPOSED) and module.groups > 1
        if not grouped:  # else its rows are read and produced at once, as in a depthwise one
            axis = (id(weight), 0 if isinstance(module, TRANSPOSED) else 1)
            self._axes[axis] = self._axes.get(axis, False) or type(module).__module__.startswith("torch.nn.")


def called_with(model: nn.Module, inputs: Mapping[str, Tensor], size: int) -> dict[int, list[nn.Module]]:
    """id of a weight -> the modules that read with it, of those that are really called with the batch as first axis."""
    found: dict[int, list[nn.Module]] = {}

    def remember(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if arguments and arguments[0].shape[0] % size == 0:
            modules = found.setdefault(id(module.weight), [])
            if module not in modules:
                modules.append(module)

    with ExitStack() as hooks, torch.no_grad():
        for module in model.modules():
            if type(module) in (nn.Linear, *CONVOLUTIONS, *TRANSPOSED):
                hooks.callback(module.register_forward_pre_hook(remember).remove)
        call(model, inputs)
    return found


def channels_read(module: nn.Module, indices: Sequence[int]) -> list[int]:
    """The input channels behind indices of a weight's axis, which a grouped convolution repeats for every group."""
    if not isinstance(module, CONVOLUTIONS):
        return list(indices)
    return [block * module.weight.shape[1] + index for block in range(module.groups) for index in indices]
