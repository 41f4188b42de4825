"""What a model would cost with some channels and blocks gone, without cutting it: multiply-accumulates, channels.

A cost answers for many candidates at once, since the allocation asks for thousands: row i of `counts` says how many
groups of each family go, row i of `skipped` which blocks go as a whole.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from compress.prune.blocks import Block
from compress.prune.choose.select import Family, channels_of
from compress.prune.plan import PrunePlan, apply, named_tensors
from compress.prune.products import Product, one_name, products

Counts = NDArray[np.int64]
"""Shape (candidates, families): groups that go."""
Skips = NDArray[np.bool_]
"""Shape (candidates, blocks): blocks that go."""
Floats = NDArray[np.float64]


class Cost(Protocol):
    """Anything that grows with the model, > 0."""

    def __call__(self, counts: Counts, skipped: Skips) -> Floats:
        """The cost of each candidate, shape (candidates,)."""


@dataclass(frozen=True)
class Layout:
    """How the axes of a model's tensors shrink with its families, and which modules go with which block.

    Args:
        axes: (tensor, dim) -> column. Column 0 stands for every axis that keeps its size.
        sizes: of each axis before the cut, shape (axes,); column 0 is 1.
        lost: indices that an axis loses with each group of a family, shape (families, axes).
        blocks: what may be skipped.
    """

    axes: Mapping[tuple[str, int], int]
    sizes: Floats
    lost: Floats
    blocks: tuple[Block, ...]

    @staticmethod
    def of(model: nn.Module, families: Sequence[Family], blocks: Sequence[Block]) -> Layout:
        """The layout of a model before the cut; groups of a family are alike, so its first one stands for all."""
        names, tensors = one_name(model), named_tensors(model)
        axes: dict[tuple[str, int], int] = {}
        for family in families:
            for tensor, dim in family.groups[0].family:
                axes.setdefault((names[tensor], dim), len(axes) + 1)
        sizes = np.ones(len(axes) + 1)
        for (tensor, dim), column in axes.items():
            sizes[column] = tensors[tensor].shape[dim]
        lost = np.zeros((len(families), len(sizes)))
        for row, family in enumerate(families):
            for piece in family.groups[0].slices:
                lost[row, axes[names[piece.tensor], piece.dim]] = len(piece.indices)
        return Layout(axes, sizes, lost, tuple(blocks))

    def column(self, tensor: str, dim: int) -> int:
        """Of an axis; 0 if no family shrinks it."""
        return self.axes.get((tensor, dim), 0)

    def widths(self, counts: Counts) -> Floats:
        """What is left of every axis, shape (candidates, axes)."""
        return self.sizes - counts @ self.lost

    def gone_with(self, paths: Sequence[str]) -> NDArray[np.bool_]:
        """Which of the modules (or tensors) at `paths` go with which block, shape (blocks, paths)."""
        return np.array([[block.holds(path) for path in paths] for block in self.blocks], bool).reshape(
            len(self.blocks), len(paths)
        )


def lying_inside(families: Sequence[Family], blocks: Sequence[Block]) -> NDArray[np.bool_]:
    """Which families go as a whole with which block, shape (blocks, families)."""
    return np.array(
        [
            [all(block.holds(tensor) for tensor, _ in family.groups[0].family) for family in families]
            for block in blocks
        ],
        bool,
    ).reshape(len(blocks), len(families))


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates of one sample. Exact where layers are convolutions, linear layers or attention.

    Args:
        base: of each product before the cut, shape (products,).
        columns: the two axes of its weight in the layout, shape (products, 2).
        slopes: what an unweighted product (attention) loses with each group, shape (families, products).
        gone: which products go with which block, shape (blocks, products).
    """

    layout: Layout
    base: Floats
    columns: NDArray[np.int64]
    slopes: Floats
    gone: NDArray[np.bool_]

    def __call__(self, counts: Counts, skipped: Skips) -> Floats:
        shares = self.layout.widths(counts) / self.layout.sizes
        left = self.base * shares[:, self.columns[:, 0]] * shares[:, self.columns[:, 1]] - counts @ self.slopes
        total: Floats = np.where(skipped @ self.gone, 0.0, left).sum(1)
        return total


def macs_cost(
    model: nn.Module, families: Sequence[Family], blocks: Sequence[Block], inputs: Mapping[str, Tensor]
) -> Macs:
    """The cost in multiply-accumulates of one sample, from one pass over the first of `inputs`.

    Where factors have no weights, as in attention, each family is cut once to see what they lose with it.
    """
    one_sample = {name: tensor[:1] for name, tensor in inputs.items()}
    found = products(model, one_sample)
    layout = Layout.of(model, families, blocks)
    slopes = np.zeros((len(families), len(found)))
    if any(product.weight is None for product in found):
        for row, family in enumerate(families):
            slopes[row] = _slopes(model, family, found, one_sample)
    return Macs(
        layout,
        np.array([product.macs for product in found], float),
        columns_of(found, layout),
        slopes,
        layout.gone_with([product.module for product in found]),
    )


def columns_of(found: Sequence[Product], layout: Layout) -> NDArray[np.int64]:
    """The layout's columns of the first two axes of each product's weight, shape (products, 2)."""
    return np.array(
        [[layout.column(product.weight or "", dim) for dim in (0, 1)] for product in found], np.int64
    ).reshape(len(found), 2)


@dataclass(frozen=True)
class Channels:
    """Removable channels that are left, and `fixed` that count besides."""

    widths: Floats
    numbers: Floats
    within: NDArray[np.bool_]
    fixed: float = 0.0

    def __call__(self, counts: Counts, skipped: Skips) -> Floats:
        left = (self.numbers - counts) * self.widths
        total: Floats = self.fixed + np.where(skipped @ self.within, 0.0, left).sum(1)
        return total


def channels_cost(families: Sequence[Family], blocks: Sequence[Block], fixed: float = 0.0) -> Channels:
    """The cost in removable channels; a head counts as many as it is wide."""
    widths = np.array([channels_of(family.groups[0]) for family in families], float)
    numbers = np.array([len(family.groups) for family in families], float)
    return Channels(widths, numbers, lying_inside(families, blocks), fixed)


def _slopes(model: nn.Module, family: Family, found: Sequence[Product], one_sample: Mapping[str, Tensor]) -> Floats:
    count = family.counts[-1]
    if not count:  # it only goes with a branch, and so does what it is a factor of
        return np.zeros(len(found))
    cut = copy.deepcopy(model)
    apply(cut, PrunePlan.of(cut, family.groups[:count]))
    after = products(cut, one_sample)
    return np.array(
        [
            (before.macs - now.macs) / count if before.weight is None else 0.0
            for before, now in zip(found, after, strict=True)
        ]
    )
