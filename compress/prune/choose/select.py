"""What may be chosen from: families of groups with their importance, and the numbers of them that may go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.prune.blocks import Block
from compress.prune.channels import Group
from compress.prune.importance import Scores

FamilyAxes = tuple[tuple[str, int], ...]
"""See compress.prune.channels.Group.family."""


@dataclass(frozen=True)
class Family:
    """Groups in the same axes: the channels of a layer, or of the layers that a residual stream ties together.

    Args:
        groups: least important first.
        scores: what is lost with each, ascending; scores of different families can be added up.
        counts: how many may go, ascending, from 0.
        goes_whole: all may go, with the branch that makes them.
    """

    groups: tuple[Group, ...]
    scores: tuple[float, ...]
    counts: tuple[int, ...]
    goes_whole: bool = False

    @staticmethod
    def of(
        groups: Sequence[Group],
        scores: Scores,
        width: int,
        max_removed: float,
        multiple_of: int,
        goes_whole: bool = False,
    ) -> Family:
        """Rank the groups and say how many may go.

        Args:
            width: size of the narrowest axis they lie in, with what stays there in any case.
            max_removed: largest share of the groups.
            multiple_of: what is left of `width` is a multiple of it. Whole heads are not held to it.
        """
        order = np.argsort(scores, kind="stable")
        most = min(int(max_removed * len(groups) + 1e-9), len(groups) - 1)
        whole = channels_of(groups[0]) > 1
        counts = [count for count in range(1, most + 1) if whole or (width - count) % multiple_of == 0]
        ranked, losses = tuple(groups[i] for i in order), tuple(float(scores[i]) for i in order)
        return Family(ranked, losses, (0, *counts), goes_whole)

    @property
    def axes(self) -> FamilyAxes:
        """What tells it from the others."""
        return self.groups[0].family

    @property
    def reachable(self) -> tuple[int, ...]:
        """How many may go, with a branch or without."""
        return (*self.counts, len(self.groups)) if self.goes_whole else self.counts

    @property
    def losses(self) -> NDArray[np.float64]:
        """The importance lost with each of `counts`."""
        return np.concatenate([[0.0], np.cumsum(self.scores)])[list(self.counts)]


@dataclass(frozen=True)
class RatedBlock:
    """A block that may be skipped, and the importance lost with it.

    Args:
        empties: of a branch, the families of which nothing is left for what reads it.
    """

    block: Block
    loss: float
    empties: frozenset[FamilyAxes] = frozenset()


@dataclass(frozen=True)
class Selection:
    """A choice: how many groups of each family go, least important first, and which blocks."""

    counts: tuple[int, ...]
    skipped: tuple[Block, ...] = ()

    def parts(self, families: Sequence[Family]) -> list[tuple[Group, ...]]:
        """The groups that go, family by family."""
        return [family.groups[:count] for family, count in zip(families, self.counts, strict=True)]

    def groups(self, families: Sequence[Family]) -> list[Group]:
        return [group for part in self.parts(families) for group in part]


def channels_of(group: Group) -> int:
    """How many channels a group is: 1, or the width of a head."""
    return min(len(piece.indices) for piece in group.slices)
