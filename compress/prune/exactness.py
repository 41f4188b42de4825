"""The proof of a plan: the pruned model computes what the original computes with the removed slices set to zero."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compress.prune.channels import Group
from compress.prune.follow.trace import first_line
from compress.prune.plan import PrunePlan, apply, zero
from export.calling import call

TOLERANCE = 1e-4
"""Largest allowed difference, relative to the largest absolute value of the reference output."""


@dataclass(frozen=True)
class Verdict:
    """How a plan fared: the largest relative difference, and, if it was refused, why."""

    difference: float
    refusal: str | None = None


@dataclass(frozen=True)
class Refused:
    """Groups that may not go, and why."""

    groups: tuple[Group, ...]
    reason: str


def check(model: nn.Module, plan: PrunePlan, batches: Sequence[Mapping[str, Tensor]]) -> Verdict:
    """Compare the pruned model with the zeroed original on every batch; both are copies.

    Args:
        model: the original, in eval mode.
        batches: named inputs.
    """
    zeroed, pruned = copy.deepcopy(model), copy.deepcopy(model)
    zero(zeroed, plan)
    apply(pruned, plan)
    worst = 0.0
    for inputs in batches:
        with torch.no_grad():
            expected = call(zeroed, inputs)
            try:
                found = call(pruned, inputs)
            except Exception as error:  # whatever the user's forward raises on the new shapes is the answer
                return Verdict(float("inf"), f"forward fails without them: {first_line(error)}")
        if [tensor.shape for tensor in expected] != [tensor.shape for tensor in found]:
            return Verdict(float("inf"), "the output's shape changes without them")
        worst = max([worst, *map(relative_difference, found, expected)])
    refusal = None if worst <= TOLERANCE else f"the output changes by {worst:.1e} (allowed: {TOLERANCE:.0e})"
    return Verdict(worst, refusal)


def keep_exact(
    model: nn.Module, families: Sequence[Sequence[Group]], batches: Sequence[Mapping[str, Tensor]]
) -> tuple[list[Sequence[Group]], list[Refused]]:
    """Split into families that can go together, exactly, and those that cannot.

    One check when all is well. Else halves are tried, so that few culprits among many are found in few checks.
    """

    refused: list[Refused] = []

    def grow(kept: list[Sequence[Group]], more: Sequence[Sequence[Group]]) -> list[Sequence[Group]]:
        together = [*kept, *more]
        verdict = check(model, PrunePlan.of(model, [group for family in together for group in family]), batches)
        if verdict.refusal is None:
            return together
        if len(more) == 1:
            refused.append(Refused(tuple(more[0]), verdict.refusal))
            return kept
        half = len(more) // 2
        return grow(grow(kept, more[:half]), more[half:])

    return (grow([], families) if families else []), refused


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """max |found - expected| / max |expected|; infinite where either has a value that is not finite."""
    if not (torch.isfinite(found).all() and torch.isfinite(expected).all()):
        return float("inf")
    largest = float(expected.detach().abs().max()) if expected.numel() else 0.0
    difference = float((found - expected).detach().abs().max()) if expected.numel() else 0.0
    return difference / largest if largest > 0 else difference


def other_inputs(inputs: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """A second batch: floating-point inputs drawn anew with the same mean and spread, all others rolled by a sample."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(tensor.shape, generator=generator) * tensor.std() + tensor.mean()
        if tensor.is_floating_point()
        else tensor.roll(1, 0)
        for name, tensor in inputs.items()
    }
