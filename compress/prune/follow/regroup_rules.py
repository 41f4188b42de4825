"""Rules of operators that spread channels over other axes, or cut an axis into parts. See rules.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from compress.prune.channels import Axis
from compress.prune.follow.site import Axes, Followed, Site
from compress.prune.follow.splits import runs


def reshape(at: Site, x: Followed, *_: Any, **__: Any) -> Axes:
    """view, reshape, flatten, unflatten: runs of axes of equal product are regrouped, each run for itself."""
    axes: list[Axis] = []
    for before, after in runs(x.shape, at.shape):
        shunned = frozenset(place - after.start for place in at.shunned)
        axes += _regroup(at, x.shape[before], x.axes[before], at.shape[after], shunned)
    return tuple(axes)


def chunk(at: Site, x: Followed, chunks: int, dim: int = 0) -> list[Axes]:
    """Equal parts, counted anew on whatever is left: removing the same places from each part keeps the cut right."""
    size = x.shape[dim]
    parts = math.ceil(size / math.ceil(size / chunks))
    return _parts(at, x, dim, parts, f"{size} channels do not make {chunks} equal chunks", size % chunks == 0)


def split(at: Site, x: Followed, sizes: int | Sequence[int], dim: int = 0) -> list[Axes]:
    """As chunk, where all parts are equal. Their size may stand in the code; the check finds that."""
    if isinstance(sizes, int):
        whole, rest = divmod(x.shape[dim], sizes)
        sizes = [sizes] * whole + [rest] * (rest > 0)
    why = f"parts of {', '.join(map(str, sizes))} channels stand in the code"
    return _parts(at, x, dim, len(sizes), why, len(set(sizes)) == 1)


def gated_halves(at: Site, x: Followed, dim: int = -1) -> Axes:
    """glu: the first half times the sigmoid of the second."""
    return chunk(at, x, 2, dim)[0]


def pixel_shuffle(at: Site, x: Followed, factor: int) -> Axes:
    """(..., C r r, H, W) -> (..., C, H r, W r): r r channels become one."""
    at.keep(x.axes[-2:], "it mixes positions")
    ids = x.axes[-3]
    whole = None if ids is None else at.whole(ids, len(ids) // factor**2)
    return (*x.axes[:-3], whole, None, None)


def pixel_unshuffle(at: Site, x: Followed, factor: int) -> Axes:
    """(..., C, H r, W r) -> (..., C r r, H, W): one channel becomes r r."""
    at.keep(x.axes[-2:], "it mixes positions")
    ids = x.axes[-3]
    return (*x.axes[:-3], None if ids is None else np.repeat(ids, factor**2), None, None)


def channel_shuffle(at: Site, x: Followed, groups: int) -> Axes:
    """(groups, width) transposed, on axis 1. The number of groups stays, so a column goes from each."""
    ids = x.axes[1]
    if ids is not None:
        columns = at.whole(np.ascontiguousarray(ids.reshape(groups, -1).T).ravel(), len(ids) // groups)
        ids = np.repeat(columns, groups)
    return (x.axes[0], ids, *x.axes[2:])


def _parts(at: Site, x: Followed, dim: int, parts: int, why_not: str, equal: bool) -> list[Axes]:
    ids, part = x.axes[dim], None
    if ids is not None and equal:
        part = at.same(*np.split(ids, parts))
    else:
        at.keep([ids], why_not)
    return [tuple(part if axis == dim % len(x.shape) else each for axis, each in enumerate(x.axes))] * parts


def _regroup(
    at: Site, before: Sequence[int], axes: Sequence[Axis], after: Sequence[int], shunned: frozenset[int]
) -> list[Axis]:
    """One run of a reshape. Merging repeats ids; splitting keeps those on one axis and unifies them along the rest.

    Splitting hidden -> (heads, width) so makes each head one channel; undoing a flatten unifies nothing new.
    """
    carrying = [place for place, ids in enumerate(axes) if ids is not None]
    if len(carrying) != 1:
        at.keep(axes, "it mixes two axes of channels")
        return [None] * len(after)
    ids = axes[carrying[0]]
    assert ids is not None
    if not after:  # a single channel, whose axis is gone
        at.keep(axes, "its axis of channels is taken away")
        return []
    column = ids.reshape([-1 if place == carrying[0] else 1 for place in range(len(before))])
    spread = np.broadcast_to(column, before).reshape(after)
    by_axis = [np.moveaxis(spread, place, 0).reshape(size, -1) for place, size in enumerate(after)]
    roots = [at.channels.roots(table) for table in by_axis]
    exact = [place for place, table in enumerate(roots) if (table == table[:, :1]).all()]
    split = sorted((place for place, size in enumerate(after) if size > 1), key=lambda place: place in shunned)
    chosen = (exact or split or [0])[0]
    for other in by_axis[chosen].T[1:]:
        at.channels.unify(by_axis[chosen][:, 0], other)
    return [by_axis[chosen][:, 0] if place == chosen else None for place in range(len(after))]
