"""Rules of operators that move, join and cut channels without computing with them. See rules.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from compress.prune.channels import Axis
from compress.prune.follow.site import Axes, Followed, Site, unknown


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
    tensors = [each for each in tensors if each.shape != (0,)]
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


def stack(at: Site, tensors: Sequence[Followed], dim: int = 0) -> Axes:
    """A new axis; on every other the tensors meet index by index."""
    meeting = [at.same(*axes) for axes in zip(*(each.axes for each in tensors), strict=True)]
    meeting.insert(dim % len(at.shape), None)
    return tuple(meeting)


def unbind(at: Site, x: Followed, dim: int = 0) -> list[Axes]:
    """x[0], x[1], ...: the axis goes."""
    return [select(at, x, dim, index) for index in range(x.shape[dim])]


def slicing(
    at: Site, x: Followed, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Axes:
    """x[start:end:step] on one axis. The numbers stand in the model's code: cut channels would be other ones."""
    if at.shape == x.shape:
        return x.axes
    at.keep([x.axes[dim]], "it takes channels by their position")
    return _without_ids(x, dim)


def select(at: Site, x: Followed, dim: int, index: int) -> Axes:
    """x[..., index, ...]: the axis goes."""
    at.keep([x.axes[dim]], "it takes a channel by its position")
    return tuple(ids for axis, ids in enumerate(x.axes) if axis != dim % len(x.shape))


def picked(at: Site, x: Followed, dim: int, index: Followed) -> Axes:
    """index_select: as slicing, by a tensor of positions."""
    at.keep([x.axes[dim]], "it takes channels by their position")
    return _without_ids(x, dim)


def looked_up(at: Site, x: Followed, indices: Sequence[Followed | None]) -> Axes:
    """x[:, index]: one tensor of positions replaces one axis by its own axes."""
    given = [(axis, each) for axis, each in enumerate(indices) if each is not None]
    if len(given) != 1:
        return unknown(at, x)
    axis, index = given[0]
    at.keep([x.axes[axis]], "it takes channels by their position")
    return (*x.axes[:axis], *[None] * len(index.shape), *x.axes[axis + 1 :])


def moved_along(at: Site, x: Followed, amounts: Any, dims: Any = None) -> Axes:
    """roll(shifts, dims), flip(dims): positions change places on these axes."""
    chosen = amounts if dims is None else dims
    places = [chosen] if isinstance(chosen, int) else list(chosen or range(len(x.shape)))
    at.keep([x.axes[each] for each in places], "it moves channels by their position")
    return x.axes


def transpose(at: Site, x: Followed, first: int = 0, second: int = -1) -> Axes:
    """Two axes change places; `t()` has no arguments and at most two axes."""
    axes = list(x.axes)
    axes[first], axes[second] = axes[second], axes[first]
    return tuple(axes)


def reverse(at: Site, x: Followed) -> Axes:
    """`x.T`: the axes in the opposite order."""
    return tuple(reversed(x.axes))


def permute(at: Site, x: Followed, dims: Sequence[int]) -> Axes:
    """Axis k of the result is axis dims[k]."""
    return tuple(x.axes[dim] for dim in dims)


def movedim(at: Site, x: Followed, source: int | Sequence[int], target: int | Sequence[int]) -> Axes:
    """Axis source[k] becomes axis target[k]; the others keep their order."""
    rank = len(x.axes)
    sources, targets = ([each] if isinstance(each, int) else list(each) for each in (source, target))
    to = {t % rank: s % rank for s, t in zip(sources, targets, strict=True)}
    others = iter(axis for axis in range(rank) if axis not in to.values())
    return tuple(x.axes[to[place] if place in to else next(others)] for place in range(rank))


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


def tiled(at: Site, x: Followed, times: Sequence[int]) -> Axes:
    """repeat: ids are repeated, the whole axis after itself."""
    axes = (None,) * (len(times) - len(x.axes)) + x.axes
    return tuple(None if ids is None else np.tile(ids, count) for ids, count in zip(axes, times, strict=True))


def repeated(at: Site, x: Followed, times: Any, dim: int | None = None, **_: Any) -> Axes:
    """repeat_interleave: ids are repeated, each after itself."""
    if not isinstance(times, int) or dim is None:
        return unknown(at, x)
    ids = x.axes[dim]
    axes = list(x.axes)
    axes[dim] = None if ids is None else np.repeat(ids, times)
    return tuple(axes)


def _without_ids(x: Followed, dim: int) -> Axes:
    return tuple(None if axis == dim % len(x.shape) else ids for axis, ids in enumerate(x.axes))
