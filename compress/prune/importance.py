"""How much a group of slices matters. Larger is more important.

Every measure gives each index of each axis a number; a group's score is the mean over its slices of their sum,
divided by the mean of its family: layers of different scale can be compared, and no layer is emptied only because
its weights are small, as they may well be in front of a batch norm. Then it is multiplied by the number of layers
that read the channel: without that, halving the MACs of ResNet-56 by l2 took half the residual stream first and kept
16 % accuracy, with it 36 % (1,000 images, right after the cut).
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

Importance = Literal["l1", "l2", "bn_scale", "taylor", "random"]
Scores = NDArray[np.float64]
Measure = Callable[[str, int], Scores | None]
"""(tensor, dim) -> one number an index, or None where the tensor says nothing."""


def l1(model: nn.Module) -> Measure:
    """Sum of |w| of convolution, linear and embedding weights. Source: Li et al. 2017, arXiv:1608.08710."""
    return _of_weights(model, torch.abs)


def l2(model: nn.Module) -> Measure:
    """Sum of w squared; group scores then rank as their L2 norms do. Source: He et al. 2018, arXiv:1808.06866."""
    return _of_weights(model, torch.square)


def bn_scale(model: nn.Module) -> Measure:
    """|gamma| of batch norms. Source: Liu et al. 2017, arXiv:1708.06519."""
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    scales = {
        f"{path}.weight": module.weight.detach().abs().double().numpy()
        for path, module in model.named_modules()
        if isinstance(module, norms) and module.affine
    }
    return lambda tensor, dim: scales.get(tensor)


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
    return lambda tensor, dim: totals.get((tensor, dim))


def random(model: nn.Module, seed: int) -> Measure:
    """Numbers from a seed: the baseline that any measure has to beat."""
    shapes = {name: parameter.shape for name, parameter in model.named_parameters(remove_duplicate=False)}
    generator = np.random.default_rng(seed)
    drawn: dict[tuple[str, int], Scores] = {
        (name, dim): generator.random(size) for name, shape in shapes.items() for dim, size in enumerate(shape)
    }
    return lambda tensor, dim: drawn.get((tensor, dim))


def score(family: Sequence[Group], measures: Sequence[Measure]) -> Scores:
    """The scores of a family's groups by the first of the measures that knows any of its axes; else all equal."""
    known = next(filter(None, (_known(family[0], measure) for measure in measures)), {})
    if not known:
        return np.ones(len(family))
    scores = np.array([_mean_over_slices(group, known) for group in family])
    readers = sum(dim == 1 for _, dim in family[0].family)
    return scores / (scores.mean() or 1.0) * max(readers, 1)


def _known(group: Group, measure: Measure) -> dict[tuple[str, int], Scores]:
    numbers = {axis: measure(*axis) for axis in group.family}
    return {axis: each for axis, each in numbers.items() if each is not None}


def _mean_over_slices(group: Group, known: dict[tuple[str, int], Scores]) -> float:
    sums = [
        known[piece.tensor, piece.dim][list(piece.indices)].sum()
        for piece in group.slices
        if (piece.tensor, piece.dim) in known
    ]
    return float(np.mean(sums))


def _of_weights(model: nn.Module, size: Callable[[Tensor], Tensor]) -> Measure:
    weights = {
        name: parameter.detach()
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if parameter.dim() >= 2
    }
    return lambda tensor, dim: _over_others(size(weights[tensor]), dim).double().numpy() if tensor in weights else None


def _over_others(tensor: Tensor, dim: int) -> Tensor:
    return tensor.movedim(dim, 0).flatten(1).sum(1) if tensor.dim() > 1 else tensor
