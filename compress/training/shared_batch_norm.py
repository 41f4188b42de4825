"""Batch normalisation over the samples of all processes, so that several compute what one computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from compress.training.processes import Processes


@contextmanager
def shared_batch_norms(model: nn.Module, processes: Processes) -> Iterator[None]:
    """While this lasts, the batch norms of `model` normalise by the statistics of the whole batch, not of this share.

    Alone, nothing changes. torch's own SyncBatchNorm needs a GPU.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)] if processes.count > 1 else []
    for norm in norms:
        norm.forward = partial(_normalise, norm, processes)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


class _Sum(torch.autograd.Function):
    """The sum over processes. Each process's loss reads the sum, so a summand's gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, processes: Processes) -> Tensor:
        ctx.processes = processes
        return processes.sum(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.processes.sum(gradients[0]), None


def _normalise(norm: _BatchNorm, processes: Processes, features: Tensor) -> Tensor:
    """What `norm` gives for `features`, shape (samples, channels, ...), beside the samples of the other processes.

    The variance is the mean of the squared distances from the common mean: of two passes, since the difference of
    mean square and squared mean loses digits in float32.
    """
    if not norm.training:
        return type(norm).forward(norm, features)
    axes, shape = [axis for axis in range(features.ndim) if axis != 1], [1, -1, *([1] * (features.ndim - 2))]
    counted = features.new_tensor([features.numel() / features.shape[1]], dtype=torch.float32)
    wide = features.float()
    sums: Tensor = _Sum.apply(torch.cat([wide.sum(axes), counted]), processes)  # type: ignore[no-untyped-call]
    count = sums[-1].detach()
    mean = sums[:-1] / count
    centred = wide - mean.reshape(shape)
    variance: Tensor = _Sum.apply(centred.square().sum(axes), processes) / count  # type: ignore[no-untyped-call]
    _track(norm, mean.detach(), variance.detach(), float(count))
    normalised = (centred * torch.rsqrt(variance + norm.eps).reshape(shape)).to(features.dtype)
    if norm.weight is None:
        return normalised
    return normalised * norm.weight.reshape(shape) + norm.bias.reshape(shape)


def _track(norm: _BatchNorm, mean: Tensor, variance: Tensor, count: float) -> None:
    """Move the running statistics as torch does: by `momentum`, or by the mean over all batches where it is None."""
    if norm.running_mean is None or norm.running_var is None:
        return
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    factor = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, factor)
    norm.running_var.lerp_(variance * count / max(count - 1, 1), factor)
