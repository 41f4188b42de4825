"""Which indices of which tensors are one and the same channel.

Every index of every axis of every parameter and buffer has a number, its id. Operators say which ids belong
together (a convolution's input channels and the channels of what it reads), which are produced by a layer, and
which must stay. What is left in the end: groups of slices that can only go together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Axis = Ids | None
"""The ids along one axis of a tensor, one per index; None for an axis on which nothing can be removed."""


@dataclass(frozen=True)
class Slice:
    """Some indices of one axis of a parameter or buffer."""

    tensor: str
    dim: int
    indices: tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """Slices that are one channel: they go together or stay together."""

    slices: tuple[Slice, ...]

    @property
    def family(self) -> tuple[tuple[str, int], ...]:
        """The axes it lies in. Groups of the same axes are alternatives to each other, as the channels of a layer."""
        return tuple((piece.tensor, piece.dim) for piece in self.slices)


@dataclass(frozen=True)
class LeftAlone:
    """Channels that stay, and why: `where` is a module's path."""

    where: str
    reason: str


def together(groups: Sequence[Group]) -> list[list[Group]]:
    """The groups, family by family."""
    families: dict[object, list[Group]] = {}
    for group in groups:
        families.setdefault(group.family, []).append(group)
    return list(families.values())


class Channels:
    """Ids and what is known of them: a union-find with reasons to stay."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._axes: list[tuple[str, int, Ids]] = []
        self._produced: set[int] = set()
        self._reasons: dict[int, dict[str, None]] = {}

    def axis(self, tensor: str, dim: int, size: int) -> Ids:
        """New ids for one axis of a parameter or buffer."""
        ids = self._new(size)
        self._axes.append((tensor, dim, ids))
        return ids

    def fixed(self, size: int, reason: str) -> Ids:
        """New ids of positions that no parameter owns and that stay."""
        ids = self._new(size)
        self.pin(ids, reason)
        return ids

    def produce(self, axis: Axis) -> None:
        """Mark ids as outputs of a layer. Only what a layer produces can be removed, not, say, a row of a kernel."""
        if axis is not None:
            self._produced.update(axis.tolist())

    def pin(self, axis: Axis, reason: str) -> None:
        """Keep these ids, and all that is or will be unified with them."""
        for root in {self._find(number) for number in axis.tolist()} if axis is not None else ():
            self._reasons.setdefault(root, {})[reason] = None

    def unify(self, one: Ids, other: Ids) -> None:
        """Make the two axes, of the same length, one axis index by index."""
        for a, b in zip(one.tolist(), other.tolist(), strict=True):
            self._union(a, b)

    def roots(self, axis: Ids) -> Ids:
        """For each id the one that stands for all that it is unified with."""
        return np.array([self._find(number) for number in axis.ravel().tolist()], dtype=np.int64).reshape(axis.shape)

    def groups(self) -> tuple[Group, ...]:
        """All that can be removed, in the order in which the model owns it."""
        removable = {self._find(number) for number in self._produced} - self._reasons.keys()
        pieces: dict[int, list[Slice]] = {}
        for tensor, dim, ids in self._axes:
            for root, indices in _positions(self.roots(ids)).items():
                if root in removable:
                    pieces.setdefault(root, []).append(Slice(tensor, dim, tuple(indices)))
        return tuple(Group(tuple(slices)) for slices in pieces.values())

    def left_alone(self) -> tuple[LeftAlone, ...]:
        """For each axis that a layer produces and that stays, in whole or in part, the first reason to stay."""
        found = []
        for tensor, _, ids in self._axes:
            pinned = [root for root in self.roots(ids).tolist() if root in self._reasons]
            if pinned and self._produced.issuperset(ids.tolist()):
                share = f"{len(pinned)} of {len(ids)} channels stay: "
                found.append(LeftAlone(tensor.rpartition(".")[0] or "the model", share + self._reason_of(pinned)))
        return tuple(found)

    def _new(self, size: int) -> Ids:
        start = len(self._parent)
        self._parent.extend(range(start, start + size))
        return np.arange(start, start + size, dtype=np.int64)

    def _find(self, number: int) -> int:
        parent = self._parent
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    def _union(self, a: int, b: int) -> None:
        first, second = sorted((self._find(a), self._find(b)))
        if first != second:
            self._parent[second] = first
            if second in self._reasons:
                self._reasons[first] = self._reasons.get(first, {}) | self._reasons.pop(second)

    def _reason_of(self, pinned: Iterable[int]) -> str:
        reasons = list(dict.fromkeys(reason for root in pinned for reason in self._reasons[root]))
        return reasons[0] + (f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else "")


def _positions(roots: Ids) -> dict[int, list[int]]:
    positions: dict[int, list[int]] = {}
    for index, root in enumerate(roots.tolist()):
        positions.setdefault(root, []).append(index)
    return positions
