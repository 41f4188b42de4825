"""How much a group of slices matters. Larger is more important.

A measure gives a group a number. Those of this file look at weights: they give each index of each axis a number, and a
group the mean over its slices of their sum. Such numbers mean nothing across layers, so `score` divides them by the
mean of the family: no layer is emptied only because its weights are small, as they may well be in front of a batch
norm. Then it multiplies them by the number of layers that read the channel: without that, halving the MACs of ResNet-56
by l2 took half the residual stream first and kept 16 % accuracy, with it 36 % (1,000 images, right after the cut).
`fisher.py` measures in units of the loss instead, `obs.py` in squared outputs; their numbers are compared as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compress.prune.channels import Group
from compress.workload import Batch
from export.calling import call

Importance = Literal["obs", "fisher", "l1", "l2", "bn_scale", "taylor", "random"]
Scores = NDArray[np.float64]
Measure = Callable[[Group], float | None]
"""The raw importance of a group; None where the measure knows nothing of it."""

Numbers = Callable[[str, int], Scores | None]
"""(tensor, dim) -> one number an index, or None where the tensor says nothing."""


def l1(model: nn.Module) -> Measure:
    """Sum of |w| of convolution, linear and embedding weights. Source: Li et al. 2017, arXiv:1608.08710."""
    return _mean_over_slices(_of_weights(model, torch.abs))


def l2(model: nn.Module) -> Measure:
    """Sum of w squared; group scores then rank as their L2 norms do. Source: He et al. 2018, arXiv:1808.06866."""
    return _mean_over_slices(_of_weights(model, torch.square))


def bn_scale(model: nn.Module) -> Measure:
    """|gamma| of batch norms. Source: Liu et al. 2017, arXiv:1708.06519."""
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    scales = {
        f"{path}.weight": module.weight.detach().abs().double().numpy()
        for path, module in model.named_modules()
        if isinstance(module, norms) and module.affine
    }
    return _mean_over_slices(lambda tensor, dim: scales.get(tensor))


def taylor(model: nn.Module, batches: Iterable[Batch], loss: Callable[[Tensor, Tensor], Tensor]) -> Measure:
    """Sum over batches of (sum of gradient times w) squared: the first-order change of the loss without the slice.

    Source: Molchanov et al. 2019, arXiv:1906.10771, equation 8. The model's gradients are None afterwards.
    """
    totals: dict[tuple[str, int], Scores] = {}
    for inputs, target in batches:
        model.zero_grad()
        loss(call(model, inputs)[0], target).backward()  # type: ignore[no-untyped-call]
        for name, parameter in model.named_parameters(remove_duplicate=False):
            if parameter.grad is not None:
                change = parameter.grad * parameter.detach()
                for dim in range(parameter.dim()):
                    squared = _over_others(change, dim).square().double().numpy()
                    totals[name, dim] = totals.get((name, dim), 0.0) + squared
    model.zero_grad()
    return _mean_over_slices(lambda tensor, dim: totals.get((tensor, dim)))


def random(model: nn.Module, seed: int) -> Measure:
    """Numbers from a seed: the baseline that any measure has to beat."""
    shapes = {name: parameter.shape for name, parameter in model.named_parameters(remove_duplicate=False)}
    generator = np.random.default_rng(seed)
    drawn: dict[tuple[str, int], Scores] = {
        (name, dim): generator.random(size) for name, shape in shapes.items() for dim, size in enumerate(shape)
    }
    return _mean_over_slices(lambda tensor, dim: drawn.get((tensor, dim)))


def raw(family: Sequence[Group], measures: Sequence[Measure]) -> Scores:
    """What the first measure that knows the family says of its groups; else all equal."""
    for measure in measures:
        known = [number for group in family if (number := measure(group)) is not None]
        if len(known) == len(family):
            return np.array(known, dtype=np.float64)
    return np.ones(len(family))


def score(family: Sequence[Group], measures: Sequence[Measure]) -> Scores:
    """`raw` relative to the family's mean, times the number of layers that read it."""
    scores = raw(family, measures)
    readers = sum(dim == 1 for _, dim in family[0].family)
    return scores / (scores.mean() or 1.0) * max(readers, 1)


def _mean_over_slices(numbers: Numbers) -> Measure:
    def measure(group: Group) -> float | None:
        known = [(piece, numbers(piece.tensor, piece.dim)) for piece in group.slices]
        sums = [each[list(piece.indices)].sum() for piece, each in known if each is not None]
        return float(np.mean(sums)) if sums else None

    return measure


def _of_weights(model: nn.Module, size: Callable[[Tensor], Tensor]) -> Numbers:
    weights = {
        name: parameter.detach()
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if parameter.dim() >= 2
    }
    sums: dict[tuple[str, int], Scores] = {}

    def numbers(tensor: str, dim: int) -> Scores | None:
        if tensor in weights and (tensor, dim) not in sums:
            sums[tensor, dim] = _over_others(size(weights[tensor]), dim).double().numpy()
        return sums.get((tensor, dim))

    return numbers


def _over_others(tensor: Tensor, dim: int) -> Tensor:
    return tensor.movedim(dim, 0).flatten(1).sum(1) if tensor.dim() > 1 else tensor
