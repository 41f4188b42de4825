"""A correction to a layer's weights by least squares, from sums over batches that do not grow with the samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

RIDGES = (1e-7, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Weights of the ridge that are tried, relative to the mean of the diagonal."""


class NormalEquations:
    """Sums for the correction that brings a layer's outputs closest to its targets, in float64.

    What is asked for is a change of the weights, not the weights: so the ridge draws towards the weights as they are,
    and directions that the batches never show stay as they were trained.

    Args:
        groups: of a grouped convolution; 1 otherwise. Each has equations of its own.
        columns: inputs of one output: channels times kernel, and one more where a bias is solved for.
        outputs: of one group.
    """

    def __init__(self, groups: int, columns: int, outputs: int) -> None:
        self.gram = torch.zeros(groups, columns, columns, dtype=torch.float64)
        self.cross = torch.zeros(groups, columns, outputs, dtype=torch.float64)
        self.missed = 0.0
        self.targets = 0.0

    def add(self, inputs: Tensor, missing: Tensor, targets: Tensor) -> None:
        """Add rows.

        Args:
            inputs: shape (rows, groups, columns).
            missing: targets less what the layer gives now, shape (rows, groups, outputs).
            targets: for the scale of the error, same shape.
        """
        by_group = inputs.double().transpose(0, 1)
        wanted = missing.double().transpose(0, 1)
        self.gram += by_group.transpose(1, 2) @ by_group
        self.cross += by_group.transpose(1, 2) @ wanted
        self.missed += float(wanted.square().sum())
        self.targets += float(targets.double().square().sum())

    def error(self, change: Tensor | None = None) -> float:
        """Squared error after a change of the weights, shape (groups, columns, outputs), over squared targets."""
        left = self.missed
        if change is not None:
            left += float((change * (self.gram @ change - 2 * self.cross)).sum())
        return max(left, 0.0) / (self.targets or 1.0)

    def solve(self, ridge: float) -> Tensor:
        """The change of the weights, shape (groups, columns, outputs)."""
        diagonal = self.gram.diagonal(dim1=1, dim2=2)
        strength = ridge * diagonal.mean(1, keepdim=True) + torch.finfo(torch.float32).tiny
        factor = torch.linalg.cholesky(self.gram + torch.diag_embed(strength.expand_as(diagonal)))
        return torch.cholesky_solve(self.cross, factor)

    def __add__(self, other: NormalEquations) -> NormalEquations:
        both = NormalEquations(*self.cross.shape)
        both.gram, both.cross = self.gram + other.gram, self.cross + other.cross
        both.missed, both.targets = self.missed + other.missed, self.targets + other.targets
        return both


def best_change(
    fitted: NormalEquations, held_out: NormalEquations, ridges: Sequence[float] = RIDGES
) -> tuple[Tensor, float] | None:
    """The change that serves rows it was not fitted to best, fitted again to all, and its error before that.

    None if every ridge's change harms those rows.
    """
    errors = {ridge: held_out.error(fitted.solve(ridge)) for ridge in ridges}
    best = min(errors, key=errors.__getitem__)
    return ((fitted + held_out).solve(best), errors[best]) if errors[best] < held_out.error() else None
