"""Where a reshape splits channels over several axes: which of those axes can carry them, from what happens to it next.

`view(batch, length, 3, heads, width)` may lose heads, but not one of query, key and value, which are then taken
apart by number. A channel shuffle, `view(batch, groups, width, ...).transpose(1, 2)` and merged again, may lose
columns, but not one of the groups, whose number stands in the code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, fx

aten = torch.ops.aten
RESHAPES = (aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.flatten.using_ints)
COPIES = (aten.contiguous.default, aten.clone.default)
APART = (aten.unbind.int, aten.select.int, aten.chunk.default, aten.split.Tensor, aten.slice.Tensor)
"""They take an axis apart by position; the axis is their second argument (chunk's and split's third)."""


def shunned(node: fx.Node) -> frozenset[int]:
    """Axes of this node's result that are taken apart by position, or merged in another order than they were split."""
    return frozenset(_shunned(node, range(node.meta["val"].dim())))


def runs(before: Sequence[int], after: Sequence[int]) -> Iterator[tuple[slice, slice]]:
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


def _shunned(node: fx.Node, axes: Sequence[int]) -> Iterator[int]:
    """`axes` are the reshape's axes that lie along each axis of `node`."""
    for user in node.users:
        value = user.meta.get("val")
        if user.target in APART:
            place = 2 if user.target in (aten.chunk.default, aten.split.Tensor) else 1
            dim = user.args[place] if len(user.args) > place else 0
            assert isinstance(dim, int)
            if not (isinstance(value, Tensor) and value.shape == node.meta["val"].shape):
                yield axes[dim]
        elif user.target in COPIES:
            yield from _shunned(user, axes)
        elif user.target is aten.permute.default:
            yield from _shunned(user, [axes[dim] for dim in user.args[1]])  # type: ignore[union-attr, index]
        elif user.target is aten.transpose.int:
            order = list(axes)
            first, second = user.args[1:]
            order[first], order[second] = order[second], order[first]  # type: ignore[index]
            yield from _shunned(user, order)
        elif user.target in RESHAPES and isinstance(value, Tensor):
            for before, _ in runs(node.meta["val"].shape, value.shape):
                merged = [
                    axes[place] for place in range(before.start, before.stop) if node.meta["val"].shape[place] > 1
                ]
                if merged != sorted(merged):
                    yield min(merged)
