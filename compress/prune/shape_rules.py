"""Rules of operators that move, join, cut and regroup channels without computing with them. See rules.py."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from compress.prune.channels import Axis
from compress.prune.site import Axes, Followed, Site


def pad(at: Site, x: Followed, pads: Sequence[int], mode: str = "constant", value: float | None = None) -> Axes:
    """`pads` are (before, after) from the last axis on. Padded channels are constants: they stay, the others shift."""
    axes = list(x.axes)
    for place in range(len(pads) // 2):
        axis, before, after = len(axes) - 1 - place, pads[2 * place], pads[2 * place + 1]
        ids = axes[axis]
        if ids is None or (before, after) == (0, 0):
            continue
        if mode == "constant" and before >= 0 and after >= 0:
            added = [at.constant(size, "padding adds constant channels") for size in (before, after)]
            axes[axis] = np.concatenate([added[0], ids, added[1]])
        else:
            at.keep([ids], f"padding with mode={mode}, {before} before and {after} after, depends on the positions")
            axes[axis] = None
    return tuple(axes)


def concatenation(at: Site, tensors: Sequence[Followed], dim: int = 0) -> Axes:
    """Ids are joined along `dim`; on every other axis the tensors meet index by index."""
    axes: list[Axis] = []
    for axis in range(len(at.shape)):
        if axis != dim % len(at.shape):
            axes.append(at.same(*(each.axes[axis] for each in tensors)))
        elif all(each.axes[axis] is None for each in tensors):
            axes.append(None)
        else:
            parts = [(each.axes[axis], each.shape[axis]) for each in tensors]
            joined = [at.constant(size, "it joins fixed channels") if ids is None else ids for ids, size in parts]
            axes.append(np.concatenate(joined))
    return tuple(axes)


def chunk(at: Site, x: Followed, chunks: int, dim: int = 0) -> list[Axes]:
    """Equal parts, counted anew on whatever is left: removing the same places from each part keeps the cut right."""
    ids, size = x.axes[dim], x.shape[dim]
    part: Axis = None
    if ids is not None and size % chunks == 0:
        part = at.same(*np.split(ids, chunks))
    else:
        at.keep([ids], f"{size} channels do not make {chunks} equal chunks")
    axes = tuple(part if axis == dim % len(x.shape) else each for axis, each in enumerate(x.axes))
    return [axes] * math.ceil(size / math.ceil(size / chunks))


def slicing(
    at: Site, x: Followed, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Axes:
    """x[start:end:step] on one axis. The numbers stand in the model's code: cut channels would be other ones."""
    if at.shape == x.shape:
        return x.axes
    at.keep([x.axes[dim]], "it takes channels by their position")
    return tuple(None if axis == dim % len(x.shape) else ids for axis, ids in enumerate(x.axes))


def select(at: Site, x: Followed, dim: int, index: int) -> Axes:
    """x[..., index, ...]: the axis goes."""
    at.keep([x.axes[dim]], "it takes a channel by its position")
    return tuple(ids for axis, ids in enumerate(x.axes) if axis != dim % len(x.shape))


def reshape(at: Site, x: Followed, *_: Any, **__: Any) -> Axes:
    """view, reshape, flatten, unflatten: runs of axes of equal product are regrouped, each run for itself."""
    axes: list[Axis] = []
    for before, after in _runs(x.shape, at.shape):
        axes += _regroup(at, x.shape[before], x.axes[before], at.shape[after])
    return tuple(axes)


def transpose(at: Site, x: Followed, first: int = 0, second: int = -1) -> Axes:
    """Two axes change places; `t()` has no arguments and at most two axes."""
    axes = list(x.axes)
    axes[first], axes[second] = axes[second], axes[first]
    return tuple(axes)


def permute(at: Site, x: Followed, dims: Sequence[int]) -> Axes:
    """Axis k of the result is axis dims[k]."""
    return tuple(x.axes[dim] for dim in dims)


def unsqueeze(at: Site, x: Followed, dim: int) -> Axes:
    """A new axis of size 1."""
    axes = list(x.axes)
    axes.insert(dim % (len(axes) + 1), None)
    return tuple(axes)


def squeeze(at: Site, x: Followed, dim: int | Sequence[int] | None = None) -> Axes:
    """Axes of size 1 go: those of `dim`, or all."""
    chosen = range(len(x.shape)) if dim is None else [dim] if isinstance(dim, int) else dim
    gone = {each % len(x.shape) for each in chosen if x.shape[each] == 1}
    at.keep([x.axes[axis] for axis in gone], "it is the only channel")
    return tuple(ids for axis, ids in enumerate(x.axes) if axis not in gone)


def _runs(before: Sequence[int], after: Sequence[int]) -> Iterator[tuple[slice, slice]]:
    """Shortest runs of axes with the same product: (2, 8, 3, 3) -> (2, 72) gives (2)-(2) and (8, 3, 3)-(72)."""
    i = j = 0
    while i < len(before) or j < len(after):
        first, second = i, j
        left = right = 1
        while left != right or (i, j) == (first, second):
            if (left <= right and i < len(before)) or j == len(after):
                left *= before[i]
                i += 1
            else:
                right *= after[j]
                j += 1
        yield slice(first, i), slice(second, j)


def _regroup(at: Site, before: Sequence[int], axes: Sequence[Axis], after: Sequence[int]) -> list[Axis]:
    """One run of a reshape. Merging repeats ids; splitting keeps those on one axis and unifies them along the rest.

    Splitting hidden -> (heads, width) so makes each head one channel; undoing a flatten unifies nothing new.
    """
    carrying = [place for place, ids in enumerate(axes) if ids is not None]
    if len(carrying) != 1:
        at.keep(axes, "it mixes two axes of channels")
        return [None] * len(after)
    ids = axes[carrying[0]]
    assert ids is not None
    column = ids.reshape([-1 if place == carrying[0] else 1 for place in range(len(before))])
    spread = np.broadcast_to(column, before).reshape(after)
    by_axis = [np.moveaxis(spread, place, 0).reshape(size, -1) for place, size in enumerate(after)]
    roots = [at.channels.roots(table) for table in by_axis]
    exact = [place for place, table in enumerate(roots) if (table == table[:, :1]).all()]
    split = [place for place, size in enumerate(after) if size > 1]
    chosen = (exact or split or [0])[0]
    for other in by_axis[chosen].T[1:]:
        at.channels.unify(by_axis[chosen][:, 0], other)
    return [by_axis[chosen][:, 0] if place == chosen else None for place in range(len(after))]
