"""How long a model will take with other widths: its layers' times from the table, and what is left of the rest.

Of a model that writes it is the time of a whole answer: each kind of call as often as an answer makes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from compress.prune.blocks import Block
from compress.prune.choose.cost import Cost, Counts, Floats, Layout, Skips
from compress.prune.choose.latency_table import LatencyTable, Operator, kernels_of_products
from compress.prune.choose.select import Family
from compress.prune.plan import named_tensors
from compress.prune.products import Product, one_name, products_and_pools
from compress.step import TimedCall
from targets import Profile

GRID = 8
"""Widths of an axis at which a product is measured, at most; between them times are interpolated."""
POOLED = 64
"""The same of a max pool: over a few channels more than fill a register it may take several times as long."""


@dataclass(frozen=True)
class LatencyModel:
    """What predicts the latency of one model's narrower versions.

    Args:
        model: as it is now.
        calls: it, or its parts, as they are timed.
    """

    model: nn.Module
    calls: Sequence[TimedCall]
    table: LatencyTable

    @property
    def whole_s(self) -> float:
        """All calls of the model as it is."""
        return sum(call.times * call.profile.call_s for call in self.calls)

    def cost(self, families: Sequence[Family], blocks: Sequence[Block]) -> Cost:
        """Seconds of all calls together. Exact for the model as it is, by construction."""
        layout = Layout.of(self.model, families, blocks)
        reachable = _reachable(layout, families)
        found = [
            named_as_in(self.model, call.module, products_and_pools(call.module, call.inputs)) for call in self.calls
        ]
        costs = [
            self._of_call(call, _own(call, some, zip(self.calls, found, strict=True)), layout, reachable)
            for call, some in zip(self.calls, found, strict=True)
        ]
        return _Calls(costs, np.array([call.times for call in self.calls], float))

    def _of_call(
        self, call: TimedCall, found: Sequence[Product], layout: Layout, reachable: Sequence[Sequence[float]]
    ) -> Cost:
        columns = np.array(
            [[layout.column(each.weight or "", dim) for dim in each.axes] for each in found], np.int64
        ).reshape(len(found), 2)
        grids = [_grid(each, [reachable[column] for column in pair]) for each, pair in zip(found, columns, strict=True)]
        points = [_points(each, *grid) for each, grid in zip(found, grids, strict=True)]
        seconds = self.table.seconds(operator for rows in points for row in rows for operator in row)
        times = [np.array([[seconds[operator] for operator in row] for row in rows]) for rows in points]
        return _Latency.of(call.profile, layout, found, columns, grids, times)


@dataclass(frozen=True)
class _Calls:
    """Costs of calls, each as often as it is made."""

    costs: Sequence[Cost]
    times: Floats

    def __call__(self, counts: Counts, skipped: Skips) -> Floats:
        total: Floats = self.times @ np.array([cost(counts, skipped) for cost in self.costs])
        return total


@dataclass(frozen=True)
class _Latency:
    """Sum over products, and max pools, of interpolated times, plus the other operators, which shrink with what the products make.

    Args:
        columns: the layout's columns of each product's outputs and inputs, shape (products, 2).
        full: outputs and inputs of each product as it is, shape (products, 2).
        grids: for each product the ascending widths of its outputs and of its inputs, padded, shape (products, 2, widths).
        times: seconds at these, shape (products, widths, widths).
        gone: which products go with which block, shape (blocks, products).
        made: elements that each product makes, as a share of all, shape (products,).
        scale: of the table's times, so that they add up to what the profile says of as many kernels, or, where the runtime
            does not tell them apart, to all of its layers at most.
        shrinking, constant: seconds of the other operators, and of the runtime between them.
    """

    layout: Layout
    columns: NDArray[np.int64]
    full: Floats
    grids: Floats
    times: Floats
    gone: NDArray[np.bool_]
    made: Floats
    scale: float
    shrinking: float
    constant: float

    @staticmethod
    def of(
        profile: Profile,
        layout: Layout,
        found: Sequence[Product],
        columns: NDArray[np.int64],
        grids: Sequence[Sequence[Sequence[int]]],
        times: Sequence[Floats],
    ) -> _Latency:
        most = max((len(grid) for pair in grids for grid in pair), default=1)
        padded = np.full((len(found), 2, most), np.inf)
        filled = np.zeros((len(found), most, most))
        for place, (grid, table) in enumerate(zip(grids, times, strict=True)):
            for side in (0, 1):
                padded[place, side, : len(grid[side])] = grid[side]
            filled[place, : table.shape[0], : table.shape[1]] = table
        ends = np.array([float(table[-1, -1]) for table in times])
        multiplies = np.array([not each.pools for each in found], bool)
        now = float(ends[multiplies].sum())
        layers_s = sum(layer.time_s for layer in profile.layers)
        layers_s = min(layers_s, profile.call_s) if layers_s else profile.call_s
        kernels = kernels_of_products(profile.layers)
        told_s = sum(kernel.time_s for kernel in kernels) if len(kernels) == multiplies.sum() else now
        scale = min(told_s, layers_s) / now if now else 1.0
        scale = min(scale, layers_s / ends.sum()) if len(found) else scale
        elements = np.array([each.outputs * np.prod(each.activations) / max(each.inputs, 1) for each in found], float)
        elements *= multiplies
        return _Latency(
            layout,
            columns,
            np.array([[each.outputs, each.inputs] for each in found], float).reshape(len(found), 2),
            padded,
            filled,
            layout.gone_with([each.module for each in found]),
            elements / max(elements.sum(), 1.0),
            scale,
            layers_s - scale * float(ends.sum()),
            profile.call_s - layers_s,
        )

    def __call__(self, counts: Counts, skipped: Skips) -> Floats:
        shares = (self.layout.widths(counts) / self.layout.sizes)[:, self.columns]
        widths = shares * self.full
        times = self._interpolated(widths)
        stays = ~(skipped @ self.gone)
        products_s = self.scale * (times * stays).sum(1)
        others_s = self.shrinking * (self.made * shares[:, :, 0] * stays).sum(1)
        total: Floats = products_s + others_s + self.constant
        return total

    def _interpolated(self, widths: Floats) -> Floats:
        """Bilinear between the grid's points, shape (candidates, products)."""
        above = (widths[..., None] >= self.grids[None]).sum(-1)
        last = np.isfinite(self.grids).sum(-1) - 1
        low = np.clip(above - 1, 0, np.maximum(last - 1, 0))
        high = np.minimum(low + 1, last)
        place = np.arange(len(self.grids))
        start = self.grids[place[:, None], np.arange(2), low]
        end = self.grids[place[:, None], np.arange(2), high]
        way = np.where(end > start, (widths - start) / np.where(end > start, end - start, 1.0), 0.0)
        (a, b), (c, d) = (low[..., 0], low[..., 1]), (high[..., 0], high[..., 1])
        u, v = way[..., 0], way[..., 1]
        mixed: Floats = (
            self.times[place, a, b] * (1 - u) * (1 - v)
            + self.times[place, c, b] * u * (1 - v)
            + self.times[place, a, d] * (1 - u) * v
            + self.times[place, c, d] * u * v
        )
        return mixed


def named_as_in(model: nn.Module, module: nn.Module, found: Iterable[Product]) -> list[Product]:
    """Products of a module by the names that its weights and modules have in the model that it is made of.

    What multiplies by no weight is left out; what the model does not have keeps its name.
    """
    first, tensors = one_name(model), named_tensors(model)
    weights = {id(tensor): first[name] for name, tensor in tensors.items()}
    paths = {id(each): path for path, each in reversed([*model.named_modules()])}
    mine, modules = named_tensors(module), dict(module.named_modules())
    return [
        replace(
            each,
            weight=weights.get(id(mine[each.weight]), each.weight),
            module=paths.get(id(modules[each.module]), each.module),
        )
        for each in found
        if each.weight is not None
    ]


def _own(
    call: TimedCall, found: Sequence[Product], all_calls: Iterable[tuple[TimedCall, Sequence[Product]]]
) -> list[Product]:
    """The products of a call whose weights no other module multiplies by in calls that are made more often.

    An encoder's module may go through a step of the decoder to fill its cache, which is not exported.
    """
    elsewhere = {
        each.weight
        for other, some in all_calls
        if other.module is not call.module and other.times > call.times
        for each in some
    }
    return [each for each in found if each.weight not in elsewhere]


def _reachable(layout: Layout, families: Sequence[Family]) -> list[list[float]]:
    """For each column of the layout the shares of its width that can be left, ascending."""
    shares = []
    for column, size in enumerate(layout.sizes):
        touching = [row for row in range(len(families)) if layout.lost[row, column]]
        left = {0.0}
        for row in touching:
            left = {gone + layout.lost[row, column] * count for gone in left for count in families[row].reachable}
            if len(left) > 4096:  # many families in one axis: its ends are enough
                left = {min(left), max(left)}
        shares.append(sorted((size - gone) / size for gone in left))
    return shares


def _grid(product: Product, shares: Sequence[Sequence[float]]) -> tuple[list[int], list[int]]:
    """Widths of the outputs and of the inputs at which a product is measured; the inputs of groups follow the outputs."""
    outputs, inputs = (
        _thin(sorted({max(1, round(full * share)) for share in side}), POOLED if product.pools else GRID)
        for full, side in zip((product.outputs, product.inputs), shares, strict=True)
    )
    if product.pools:
        return outputs[-1:], inputs
    return outputs, [product.inputs] if product.window is not None and product.window.groups > 1 else inputs


def _thin(widths: Sequence[int], most: int) -> list[int]:
    """At most `most` of them, evenly spread, with the first and the last."""
    if len(widths) <= most:
        return list(widths)
    return [widths[round(place)] for place in np.linspace(0, len(widths) - 1, most)]


def _points(product: Product, outputs: Sequence[int], inputs: Sequence[int]) -> list[list[Operator]]:
    """The operator at every pair of widths."""
    return [[Operator.at(product, read, made) for read in inputs] for made in outputs]
