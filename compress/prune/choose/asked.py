"""The three figures that a recipe may ask for, as goals: with a cost that predicts them and a way to measure them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from compress.model_size import measure_size
from compress.prune.blocks import Block
from compress.prune.choose.cost import Cost, channels_cost, macs_cost
from compress.prune.choose.goal import Goal
from compress.prune.choose.latency import LatencyModel
from compress.prune.choose.select import Family, channels_of
from compress.step import Arithmetic, Speedup


@dataclass(frozen=True)
class Asked:
    """A figure and its value.

    Args:
        name: "macs_ratio", "channels_removed" or "speedup".
        on: the target of a speed-up; None takes the first that runs here.
        arithmetic: in which a speed-up over the original in FP32 is meant.
    """

    name: str
    value: float
    on: str | None = None
    arithmetic: Arithmetic = "fp32"

    def part(self, number: int, rounds: int) -> Asked:
        """What round `number` of `rounds` (1, 2, ...) is to reach: each cuts by the same factor."""
        if number == rounds:
            return self
        if self.name == "channels_removed":
            return replace(self, value=1 - (1 - self.value) ** (number / rounds))
        return replace(self, value=self.value ** (number / rounds))


def macs_goal(asked: Asked, model: nn.Module, before: int, inputs: Mapping[str, Tensor]) -> Goal:
    """Args:
    model: as it is now.
    before: multiply-accumulates of the model that the step began with.
    """
    return Goal(
        asked.name,
        asked.value,
        before,
        lambda families, blocks: macs_cost(model, families, blocks, inputs),
        lambda pruned, _: before / measure_size(pruned, inputs).macs,
    )


def channels_goal(asked: Asked, removable: float, gone: float) -> Goal:
    """Args:
    removable: channels of the model that the step began with that may go.
    gone: how many of them went in earlier rounds.
    """

    def cost(families: Sequence[Family], blocks: Sequence[Block]) -> Cost:
        left = sum(channels_of(family.groups[0]) * len(family.groups) for family in families)
        return channels_cost(families, blocks, removable - gone - left)

    return Goal(asked.name, asked.value, removable, cost, lambda _, left: 1 - left / removable)


def speedup_goal(asked: Asked, latency: LatencyModel, speedup: Speedup, so_far: float, is_last: bool) -> Goal:
    """Args:
    latency: of the model as it is now.
    so_far: how many times faster than the original the model is now.
    is_last: measure candidates; else the prediction is believed.
    """
    reference = latency.whole_s * so_far
    return Goal(
        asked.name,
        asked.value,
        reference,
        latency.cost,
        (lambda pruned, _: speedup.measure(pruned, asked.on, asked.arithmetic))
        if is_last
        else (lambda _, cost: reference / cost),
    )
