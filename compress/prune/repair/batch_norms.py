"""Batch-norm statistics of a model as it is now, from calibration batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from compress.prune.replay import BATCH_NORMS
from export.calling import call


def reestimate(model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> int:
    """Set mean and variance of every batch norm with running statistics to those of its inputs over all batches.

    While they are collected a batch is normalised by its own statistics, everything else is in eval mode: as a batch norm
    hands on what it normalised, those behind it see inputs of the right scale in the same pass.

    Args:
        batches: read once. A batch norm's input has two values a channel or more in each.

    Returns:
        How many batch norms were set.
    """
    norms = [each for each in model.modules() if isinstance(each, BATCH_NORMS) and each.track_running_stats]
    sums = {norm: _Sums(norm.num_features) for norm in norms}
    with torch.no_grad(), ExitStack() as after:
        for norm in norms:
            after.callback(norm.register_forward_pre_hook(sums[norm].add).remove)
            after.callback(norm.train, norm.training)
            after.callback(setattr, norm, "momentum", norm.momentum)
            norm.train()
            norm.momentum = 0.0
        for inputs in batches:
            call(model, inputs)
    for norm in norms:
        sums[norm].write(norm)
    return len(norms)


class _Sums:
    """Count, sum and sum of squares of a channel's values."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.sums = torch.zeros(channels, dtype=torch.float64)
        self.squares = torch.zeros(channels, dtype=torch.float64)

    def add(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        values = arguments[0].movedim(1, 0).flatten(1).double()
        self.count += values.shape[1]
        self.sums += values.sum(1)
        self.squares += values.square().sum(1)

    def write(self, norm: nn.Module) -> None:
        if self.count > 1 and isinstance(norm, BATCH_NORMS):
            assert norm.running_mean is not None and norm.running_var is not None
            mean = self.sums / self.count
            variance = (self.squares - self.count * mean.square()) / (self.count - 1)
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance.clamp(min=0))
