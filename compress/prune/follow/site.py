"""What a rule sees: tensors whose channels are followed, and the place where an operator is applied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from compress.prune.channels import Axis, Channels, Ids

Axes = tuple[Axis, ...]


@dataclass(frozen=True)
class Followed:
    """A tensor of the graph.

    Args:
        shape: on the example inputs.
        axes: the ids along each axis.
        silent: it is zero wherever a channel is removed from it, given that the parameters are; see silence.py.
        made_in: path of the module that made it as a constant; empty for all else.
    """

    shape: tuple[int, ...]
    axes: Axes
    silent: bool = False
    made_in: str = ""

    @property
    def followed(self) -> bool:
        """Whether something can be removed from it."""
        return any(axis is not None for axis in self.axes)


@dataclass(frozen=True)
class Site:
    """Where a rule is applied: one call of one operator.

    Args:
        channels: what is known so far; the rule adds to it.
        operator: name, for example `conv2d`.
        module: path of the module that calls it.
        shape: of the result; empty for several results.
        owner: the module that calls it, where the model has one of that path.
        shunned: axes of the result that cannot carry channels, see splits.py.
    """

    channels: Channels
    operator: str
    module: str
    shape: tuple[int, ...] = ()
    owner: nn.Module | None = None
    shunned: frozenset[int] = frozenset()

    def same(self, *axes: Axis) -> Axis:
        """The axes meet index by index. One that is fixed fixes all."""
        free = [axis for axis in axes if axis is not None]
        if not free:
            return None
        if len(free) < len(axes):
            self.keep(free, "it meets an axis of fixed size")
            return None
        if len({len(axis) for axis in free}) > 1:
            self.keep(free, "it meets an axis of another size")
            return None
        for axis in free[1:]:
            self.channels.unify(free[0], axis)
        return free[0]

    def contracted(self, one: Followed, other: Followed, axes: tuple[int, int]) -> None:
        """Both axes meet and are summed over: what is removed must add nothing, so one of the tensors is silent."""
        meeting = self.same(one.axes[axes[0]], other.axes[axes[1]])
        if meeting is not None and not (one.silent or other.silent):
            self.keep([meeting], "it sums over channels that need not be zero where they are removed")

    def whole(self, ids: Ids, blocks: int) -> Ids:
        """Equal runs of ids go as a whole. Returns the first of each run."""
        table = ids.reshape(blocks, -1)
        for column in table.T[1:]:
            self.channels.unify(table[:, 0], column)
        return np.ascontiguousarray(table[:, 0])

    def keep(self, axes: Sequence[Axis], why: str) -> None:
        """Nothing on these axes is removed."""
        for axis in axes:
            self.channels.pin(axis, self._reason(why))

    def constant(self, size: int, why: str) -> Ids:
        """Positions that the operator itself adds, and that stay."""
        return self.channels.fixed(size, self._reason(why))

    def _reason(self, why: str) -> str:
        return f"{self.operator} in {self.module}: {why}" if self.module else f"{self.operator}: {why}"


def unknown(at: Site, *operands: Any, **options: Any) -> Axes:
    """No rule: nothing that the operator reads is removed, and what it computes with its own parameters is named."""
    tensors = list(followed(operands, options))
    at.keep([axis for each in tensors for axis in each.axes], "no rule follows channels through it")
    for each in tensors:
        at.channels.produce(each.axes[0] if len(each.axes) > 1 else None)
    return (None,) * len(at.shape)


def followed(*arguments: Any) -> Iterator[Followed]:
    """Every tensor in an operator's arguments, which may be nested."""
    for each in arguments:
        if isinstance(each, Followed):
            yield each
        elif isinstance(each, dict):
            yield from followed(*each.values())
        elif isinstance(each, list | tuple):
            yield from followed(*each)
