"""Reach the figure that was asked for: predict, allocate, measure, correct the prediction, allocate again."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from compress.prune.blocks import Block
from compress.prune.choose.allocate import Allocation, Problem, allocate, cheapest
from compress.prune.choose.cost import Cost, lying_inside
from compress.prune.choose.select import Family, RatedBlock, Selection
from export.errors import UnsupportedError

REFINEMENTS = 3
"""Candidates measured after the first that reaches the figure asked, to come closer to it."""
CLOSE = 1.02
"""A measured figure at most this many times the one asked is close enough."""
FAR_BEYOND = 1.1
"""A figure this many times the asked one is far beyond it."""
STRIDE = 1.15
"""The aim is raised by at most this factor from one candidate to the next: timings are noisy, and so is what follows."""
MARGIN = 1.003


@dataclass(frozen=True)
class Goal:
    """What was asked for.

    Args:
        name: the recipe's key.
        asked: its value.
        reference: what the figure is relative to, in the cost's unit: the figure is predicted as reference over cost.
        cost: families and blocks -> the cost model of what is left of the model.
        measure: pruned model and the cost predicted for it -> the figure, which must reach `asked`.
    """

    name: str
    asked: float
    reference: float
    cost: Callable[[Sequence[Family], Sequence[Block]], Cost]
    measure: Callable[[nn.Module, float], float]

    def ratio(self, figure: float) -> float:
        """The figure as before over after: a removed share becomes the ratio of channels."""
        return 1 / (1 - figure) if self.name == "channels_removed" else figure

    def figure(self, cost: float) -> float:
        """The figure at a cost, as predicted."""
        return 1 - cost / self.reference if self.name == "channels_removed" else self.reference / cost


@dataclass(frozen=True)
class Reached:
    """A measured selection.

    Args:
        predicted, measured: the goal's figure; the prediction is the first one, before it was corrected.
        tried: predicted and measured figure of every selection that was measured, in that order, until this one was chosen.
    """

    selection: Selection
    predicted: float
    measured: float
    tried: tuple[tuple[float, float], ...] = ()


def reach(
    goal: Goal,
    families: Sequence[Family],
    blocks: Sequence[RatedBlock],
    measure: Callable[[Selection, float], float],
) -> Reached:
    """The selection that loses the least importance among those whose measured figure is at least the one asked.

    Args:
        measure: selection and its predicted cost -> the goal's figure.

    Raises:
        UnsupportedError: the largest removal does not reach it.
    """
    skippable = [each.block for each in blocks]
    taken = _taken(families, blocks)
    problem = Problem(
        [np.array(family.counts, np.int64) for family in families],
        [family.losses for family in families],
        np.array([each.loss for each in blocks], float),
        lying_inside(families, skippable) | (taken > 0),
        taken,
        goal.cost(families, skippable),
    )
    least = cheapest(problem)
    asked = goal.ratio(goal.asked)
    aim, too_low, enough = asked, 1.0, math.inf
    tried: dict[Selection, Reached] = {}
    refinements, halved = 0, False
    while True:
        allocation = allocate(problem, goal.reference / aim) or least
        selection = _selection(allocation, blocks)
        again = selection in tried
        if not again:
            refinements += _nearest(tried, goal.asked) is not None
            tried[selection] = Reached(selection, goal.figure(allocation.cost), measure(selection, allocation.cost))
        found = tried[selection]
        best = _nearest(tried, goal.asked)
        if best is None and allocation == least:
            raise UnsupportedError(_out_of_reach(goal, max(each.measured for each in tried.values())))
        if found.measured >= goal.asked:
            enough = min(enough, aim)
        else:
            too_low = max(too_low, aim)
        stuck = again and halved
        if best is not None and (stuck or refinements >= REFINEMENTS or goal.ratio(best.measured) <= CLOSE * asked):
            return replace(best, tried=tuple((each.predicted, each.measured) for each in tried.values()))
        halved = again and best is not None
        aim = _between(too_low, enough) if halved else _next(aim, goal.ratio(found.measured), asked, too_low, enough)


def _next(aim: float, measured: float, asked: float, too_low: float, enough: float) -> float:
    """Aim so that the gain is what it should be if the prediction is off by the same factor again.

    Kept between the highest aim that was not enough and the lowest that was.
    """
    corrected = 1 + (aim - 1) * (asked - 1) / max(measured - 1, 1e-2) * MARGIN
    if math.isinf(enough):
        return min(max(corrected, too_low * 1.01), too_low * STRIDE)
    return corrected if too_low < corrected < enough else _between(too_low, enough)


def _between(too_low: float, enough: float) -> float:
    return math.sqrt(too_low * enough)


def _nearest(tried: dict[Selection, Reached], asked: float) -> Reached | None:
    """Of those that reach the figure the one that goes least beyond it."""
    return min(
        (each for each in tried.values() if each.measured >= asked), key=lambda each: each.measured, default=None
    )


def _taken(families: Sequence[Family], blocks: Sequence[RatedBlock]) -> NDArray[np.int64]:
    """How many groups each block takes of each family that lies in it in part, shape (blocks, families)."""
    rows = [[len(each.groups) * (each.axes in block.empties) for each in families] for block in blocks]
    return np.array(rows, np.int64).reshape(len(blocks), len(families))


def _selection(allocation: Allocation, blocks: Sequence[RatedBlock]) -> Selection:
    skipped = tuple(each.block for each, skip in zip(blocks, allocation.skipped, strict=True) if skip)
    return Selection(allocation.counts, skipped)


def _out_of_reach(goal: Goal, best: float) -> str:
    return (
        f"prune.{goal.name}: asked {goal.asked:g}, but the most that may be removed reaches {best:.3g}; "
        f"ask for at most that, raise max_removed or lower multiple_of"
    )
