"""Choose what to remove: the least important groups of all layers together, in widths that hardware rewards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from compress.prune.channels import Group
from compress.prune.importance import Scores
from export.errors import UnsupportedError

Selection = tuple[tuple[Group, ...], ...]
"""For each family the groups that go, least important first."""


FAR_BEYOND = 1.1
"""A figure this many times the asked one is far beyond it."""


@dataclass(frozen=True)
class Family:
    """Groups in the same axes: the channels of a layer, or of the layers that a residual stream ties together.

    Args:
        groups: least important first.
        scores: theirs, ascending.
        counts: how many may go, ascending, from 0.
    """

    groups: tuple[Group, ...]
    scores: tuple[float, ...]
    counts: tuple[int, ...]

    @staticmethod
    def of(groups: Sequence[Group], scores: Scores, width: int, max_removed: float, multiple_of: int) -> Family:
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
        return Family(tuple(groups[i] for i in order), tuple(float(scores[i]) for i in order), (0, *counts))


def channels_of(group: Group) -> int:
    """How many channels a group is: 1, or the width of a head."""
    return min(len(piece.indices) for piece in group.slices)


def selections(families: Sequence[Family]) -> list[Selection]:
    """Every choice that a rising threshold on importance makes, from the smallest removal to the largest."""
    ranked = sorted((score, place) for place, family in enumerate(families) for score in family.scores)
    below = [0] * len(families)
    taken = [0] * len(families)
    found: list[Selection] = []
    for _, place in ranked:
        below[place] += 1
        count = max(count for count in families[place].counts if count <= below[place])
        if count != taken[place]:
            taken[place] = count
            found.append(tuple(family.groups[:number] for family, number in zip(families, taken, strict=True)))
    return found


def smallest_that_reaches(
    asked: float, candidates: Sequence[Selection], measure: Callable[[Selection], float], what: str
) -> tuple[Selection, float]:
    """The smallest removal whose measured figure is at least `asked`, and that figure.

    Where one family's step leads far beyond (a residual stream can only be halved), the others get channels back.

    Raises:
        UnsupportedError: the largest removal does not reach it.
    """
    best = measure(candidates[-1])
    if best < asked:
        raise UnsupportedError(
            f"prune.{what}: asked {asked:g}, but the most that may be removed reaches {best:.3g}; "
            f"ask for at most that, raise max_removed or lower multiple_of"
        )
    place, reached = _bisect(asked, candidates, measure, best)
    if place > 0 and reached > FAR_BEYOND * asked:
        candidates = [_with_step(each, candidates[place - 1], candidates[place]) for each in candidates[:place]]
        place, reached = _bisect(asked, candidates, measure, reached)
    return candidates[place], reached


def _bisect(
    asked: float, candidates: Sequence[Selection], measure: Callable[[Selection], float], best: float
) -> tuple[int, float]:
    """Place and figure of the first candidate that reaches `asked`; `best` is the last one's figure, which does."""
    low, high = -1, len(candidates) - 1
    while high - low > 1:
        middle = (low + high) // 2
        reached = measure(candidates[middle])
        if reached >= asked:
            high, best = middle, reached
        else:
            low = middle
    return high, best


def _with_step(selection: Selection, before: Selection, after: Selection) -> Selection:
    """`selection` with the families that differ between `before` and `after` as in `after`."""
    return tuple(new if new != old else own for own, old, new in zip(selection, before, after, strict=True))
