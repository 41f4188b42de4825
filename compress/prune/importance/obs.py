"""Second-order importance of what least squares cannot mend: how far the outputs move when channels go and the layers
that read them are solved again.

A layer's output is W x. Without some columns of x, the weights W' of the others that stay closest to it miss
W_g (G^-1_gg)^-1 W_g', with G the second moments of x on calibration samples: the optimal brain surgeon (Hassibi & Stork
1993) for a whole layer at once, with all columns of a channel as one group (Kurtic et al. 2023, ZipLM, arXiv:2302.04089).
Channels go one after another, the least missed first; each time G^-1 and W become those of what is left, so that of two
channels that say the same the second one is dear.

What is missed at an output counts by how much the model's own outputs listen to it: the mean square of the gradient of
a random mixture of them, which is the diagonal of the Gauss-Newton matrix of their squared change. In that unit all layers compare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compress.prune.channels import Group
from compress.prune.importance import Measure
from compress.prune.importance.reading import Reading, called_with
from compress.prune.patches import Layer, inputs_at, is_layer, shape_of
from compress.prune.replay import order_of
from compress.workload import Batch
from export.calling import call

ROWS_PER_COLUMN = 32
"""Positions that are looked at for each column, over all batches."""
FEWEST_ROWS = 8192
RIDGE = 1e-4
"""Added to the diagonal of the second moments, relative to its mean: columns that hardly vary stay solvable."""
WIDEST = 4608
"""Columns of a layer above which it takes no part: its second moments would take more than 170 MB."""
TOGETHER = 1 / 64
"""Share of what is left of a family that goes in one step, so that thousands of neurons take a hundred steps."""


@dataclass(frozen=True)
class _Layer:
    """What calibration shows of a layer.

    Args:
        moments: of its columns, about their mean where the layer can take up a constant, shape (groups, columns, columns).
        heed: how much the model's outputs listen to each of its outputs, shape (groups, outputs).
    """

    module: Layer
    moments: Tensor
    heed: Tensor


def obs(model: nn.Module, families: Iterable[Sequence[Group]], batches: Iterable[Batch], seed: int) -> Measure:
    """The rise of the squared change of the outputs when a group goes after all that matter less, of each group.

    Args:
        model: in eval mode; left as it was.
        families: each is ranked by itself.
        batches: read several times, one in memory at a time.
    """
    reading = Reading(model)
    known: dict[Group, float] = {}
    first = next(iter(batches))[0]
    called = called_with(model, first, len(next(iter(first.values()))))
    wanted: dict[Layer, None] = {}
    asked = []
    for family in families:
        readers = _readers_of(family, reading, called)
        if readers:
            asked.append((family, readers))
            wanted.update(dict.fromkeys(readers))
    layers = _looked_at(model, list(wanted), batches, seed) if wanted else {}
    for family, readers in asked:
        parts = [_Part(layers[module], columns) for module, columns in readers.items()]
        known.update(zip(family, _rises(parts, len(family)), strict=True))
    return known.get


def _readers_of(
    family: Sequence[Group], reading: Reading, called: Mapping[int, Sequence[nn.Module]]
) -> dict[Layer, list[list[int]]]:
    """The layers that read the groups of a family, with each group's columns; empty where one of them is none that we know."""
    found: dict[Layer, list[list[int]]] = {}
    for number, group in enumerate(family):
        for piece in reading.pieces(group):
            modules = called.get(id(reading.tensors[piece.tensor]), ())
            layers = [module for module in modules if isinstance(module, Layer) and _is_known(module)]
            if not layers or len(layers) < len(modules):
                return {}
            for module in layers:
                window = module.weight[0, 0].numel()
                columns = [index * window + place for index in piece.indices for place in range(window)]
                found.setdefault(module, [[] for _ in family])[number] += columns
    if any(len({len(each) for each in columns}) != 1 or not columns[0] for columns in found.values()):
        return {}
    return found


def _is_known(layer: Layer) -> bool:
    return is_layer(layer) and shape_of(layer)[1] <= WIDEST


def _looked_at(model: nn.Module, layers: Sequence[Layer], batches: Iterable[Batch], seed: int) -> dict[Layer, _Layer]:
    """Second moments and heed of layers. One pass over the batches forward and one back."""
    generator = torch.Generator().manual_seed(seed)
    sums = {module: _Sums(module) for module in layers}
    samples = 0
    count = sum(1 for _ in batches)
    with ExitStack() as hooks, torch.enable_grad():
        for module, each in sums.items():
            hooks.callback(module.register_forward_hook(each.watch(count, generator)).remove)
        for inputs, _ in batches:
            output = call(model, inputs)[0]
            mixture = (output * torch.randn(output.shape, generator=generator)).sum()
            given = {each: each.output for each in sums.values() if each.output is not None}
            gradients = torch.autograd.grad(mixture, list(given.values()), allow_unused=True)
            for each, gradient in zip(given, gradients, strict=True):
                each.listen(gradient)
            samples += len(output)
    order = order_of(model, next(iter(batches))[0], is_layer)
    paths = {module: path for path, module in model.named_modules()}
    return {
        module: _Layer(
            module,
            each.moments(module.bias is not None or paths[module] in order.norms),
            (each.heed / samples).reshape(shape_of(module)[0], -1),
        )
        for module, each in sums.items()
    }


class _Sums:
    """Sums over batches of what a layer reads and of the gradients at what it gives."""

    def __init__(self, module: Layer) -> None:
        self.module = module
        self.groups, self.columns, outputs = shape_of(module)
        self.rows = 0
        self.gram = torch.zeros(self.groups, self.columns, self.columns, dtype=torch.float64)
        self.total = torch.zeros(self.groups, self.columns, dtype=torch.float64)
        self.heed = torch.zeros(self.groups * outputs, dtype=torch.float64)
        self.output: Tensor | None = None

    def watch(self, batches: int, generator: torch.Generator) -> Callable[..., Any]:
        """A forward hook that adds what is read at some drawn positions, and keeps the output for `listen`."""
        rows = max(FEWEST_ROWS, ROWS_PER_COLUMN * self.columns) // batches + 1

        def ran(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
            with torch.no_grad():
                positions = output.numel() // len(self.module.weight)
                drawn = torch.randperm(positions, generator=generator)[:rows]
                read = inputs_at(self.module, arguments[0].detach(), drawn).transpose(0, 1).double()
                self.gram += read.transpose(1, 2) @ read
                self.total += read.sum(1)
                self.rows += read.shape[1]
            self.output = output if output.requires_grad else output.requires_grad_()
            return self.output.clone()  # what works on it in place leaves ours as it is

        return ran

    def listen(self, gradient: Tensor | None) -> None:
        """Add the squares of the gradient at the output; None where the model's outputs do not depend on it."""
        if gradient is not None:
            last = gradient if isinstance(self.module, nn.Linear) else gradient.movedim(1, -1)
            self.heed += last.reshape(-1, last.shape[-1]).double().square().sum(0)
        self.output = None

    def moments(self, centred: bool) -> Tensor:
        """Second moments of the columns, about their mean or about zero, shape (groups, columns, columns)."""
        mean = self.total / self.rows
        moments = self.gram / self.rows
        return moments - mean[:, :, None] * mean[:, None, :] if centred else moments


class _Part:
    """A layer while channels that it reads go.

    Args:
        columns: of each group of the family.
    """

    def __init__(self, layer: _Layer, columns: Sequence[Sequence[int]]) -> None:
        groups, width, outputs = shape_of(layer.module)
        self.columns = torch.tensor(columns)
        weight = layer.module.weight.detach().double().reshape(groups, outputs, width)
        self.weight = (weight * layer.heed.sqrt()[:, :, None]).transpose(1, 2).contiguous()
        diagonal = layer.moments.diagonal(dim1=1, dim2=2)
        strength = RIDGE * diagonal.mean(1, keepdim=True) + torch.finfo(torch.float32).tiny
        self.inverse = torch.linalg.inv(layer.moments + torch.diag_embed(strength.expand_as(diagonal)))

    def missed(self, left: Tensor) -> Tensor:
        """What is missed more when each of these groups goes, shape (groups that are left,)."""
        columns = self.columns[left]
        blocks = self.inverse[:, columns[:, :, None], columns[:, None, :]]
        weights = self.weight[:, columns]
        missed: Tensor = (weights * torch.linalg.solve(blocks, weights)).sum((0, 2, 3))
        return missed

    def remove(self, gone: Tensor) -> None:
        columns = self.columns[gone].reshape(-1)
        block = self.inverse[:, columns[:, None], columns[None, :]]
        rows = torch.linalg.solve(block, self.inverse[:, columns])
        self.weight -= self.inverse[:, :, columns] @ torch.linalg.solve(block, self.weight[:, columns])
        self.inverse -= self.inverse[:, :, columns] @ rows
        self.weight[:, columns] = 0.0


def _rises(parts: Sequence[_Part], count: int) -> list[float]:
    """What each group adds when it goes after all that add less; never less than the one before."""
    left, rises, highest = torch.arange(count), [0.0] * count, 0.0
    while len(left):
        missed = sum((part.missed(left) for part in parts), torch.zeros(len(left), dtype=torch.float64))
        some = torch.argsort(missed, stable=True)[: max(1, int(len(left) * TOGETHER))]
        for place in some.tolist():
            highest = max(highest * (1 + 1e-9), float(missed[place]))
            rises[int(left[place])] = highest
        for part in parts:
            part.remove(left[some])
        left = left[[place for place in range(len(left)) if place not in set(some.tolist())]]
    return rises
