"""Second-order importance: by how much the loss is expected to rise when a group goes.

Think of a mask m = 1 that multiplies a channel wherever a layer reads it. Around a trained model the loss without the
channel is higher by half of the second derivative by m (LeCun et al. 1989, Optimal Brain Damage), and that derivative
is the mean over samples of the squared gradient by m, the Fisher information (Theis et al. 2018, arXiv:1801.05787;
for heads and neurons of transformers Kwon et al. 2022, arXiv:2204.09656). The gradient of one sample by m is activation
times gradient, summed over the positions and over all readers. As its unit is that of the loss, it can be compared
across layers, whatever they are.

The first-order term is left out on purpose: MiniLM-L6 at two thirds of its MACs, 512 sentences of SST-2 looked at, keeps
94.95 % of 95.15 % right after the cut without it and 56.6 % with it (2,000 phrases held out).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compress.prune.blocks import Block
from compress.prune.channels import Group, Slice
from compress.prune.importance import Measure
from compress.prune.importance.reading import Reading, called_with, channels_read
from compress.prune.plan import PrunePlan, zero
from compress.workload import Batch
from export.calling import call

Loss = Callable[[Tensor, Tensor], Tensor]


def fisher(model: nn.Module, groups: Sequence[Group], batches: Iterable[Batch], loss: Loss) -> Measure:
    """The expected rise of the loss without a group: half of the mean over samples of its squared mask gradient.

    Args:
        model: in eval mode; its parameters and their gradients are as before afterwards.
        batches: read once, one in memory at a time.
        loss: outputs and target -> mean over the batch.
    """
    samples = 0
    squares = torch.zeros(len(groups), dtype=torch.float64)
    for gradients in mask_gradients(model, groups, batches, loss):
        samples += len(gradients)
        squares += gradients.square().sum(0)
    reading = Reading(model)
    rises = (0.5 * squares / max(samples, 1)).tolist()
    known = {group: rise for group, rise in zip(groups, rises, strict=True) if reading.pieces(group)}
    return known.get


def block_fisher(
    model: nn.Module, plans: Mapping[Block, PrunePlan], batches: Iterable[Batch], loss: Loss
) -> dict[Block, float]:
    """By how much the loss really rises when a block is skipped: mean over the samples.

    Nothing is expected here: a block is too large a step for a second-order expansion, and there are few of them.

    Args:
        plans: of each block the one that skips it.
        batches: read once for every block and once more, one in memory at a time.
    """
    before = _mean_loss(model, batches, loss)
    rises = {}
    for block, plan in plans.items():
        without = copy.deepcopy(model)
        zero(without, plan)
        rises[block] = _mean_loss(without, batches, loss) - before
    return rises


def mask_gradients(model: nn.Module, groups: Sequence[Group], batches: Iterable[Batch], loss: Loss) -> Iterator[Tensor]:
    """For each batch the gradient of each sample's loss by each group's mask, float64, shape (samples, groups).

    Where a group is read by something else than a module's own call (the weights of nn.MultiheadAttention, an LSTM),
    weights times gradient give only the batch's sum. The rows are then all that sum over the root of the samples:
    their squares have the right mean where the gradients of the samples have mean zero and do not correlate.
    """
    reading = Reading(model)
    readers: list[_Reader] | None = None
    for inputs, target in batches:
        size = len(target)
        if readers is None:
            readers = _readers(reading, groups, called_with(model, inputs, size))
            hooked = {number for reader in readers for number in reader.owner.tolist()}
            others = {number: reading.pieces(group) for number, group in enumerate(groups) if number not in hooked}
            learning = [reading.tensors[piece.tensor] for pieces in others.values() for piece in pieces]
        found = torch.zeros(size, len(groups), dtype=torch.float64)
        if not (readers or learning):
            yield found
            continue
        with _only_these_learn(model, learning), ExitStack() as hooks, torch.enable_grad():
            for reader in readers:
                hooks.callback(reader.module.register_forward_pre_hook(_catch(reader, found)).remove)
            (loss(call(model, inputs)[0], target) * size).backward()  # type: ignore[no-untyped-call]
            for number, pieces in others.items():
                found[:, number] = _from_weights(pieces, reading.tensors) / size**0.5
        yield found


@dataclass(frozen=True)
class _Reader:
    """A module whose call reads groups: `owner` gives for each of its input channels the group's number, or -1."""

    module: nn.Module
    owner: Tensor


def _readers(reading: Reading, groups: Sequence[Group], called: Mapping[int, Sequence[nn.Module]]) -> list[_Reader]:
    """The modules that read the groups. A group of which one reader is not called as a module has none here."""
    owners: dict[nn.Module, Tensor] = {}
    for number, group in enumerate(groups):
        pieces = [(piece, called.get(id(reading.tensors[piece.tensor]), ())) for piece in reading.pieces(group)]
        if all(modules for _, modules in pieces):
            for piece, modules in pieces:
                for module in modules:
                    owner = owners.setdefault(module, torch.full((_inputs_of(module),), -1))
                    owner[channels_read(module, piece.indices)] = number
    return [_Reader(module, owner) for module, owner in owners.items()]


def _inputs_of(module: nn.Module) -> int:
    size = module.in_features if isinstance(module, nn.Linear) else module.in_channels
    assert isinstance(size, int)
    return size


def _catch(reader: _Reader, found: Tensor) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
    """A hook that adds activation times gradient of each sample to the columns of `found`."""
    read = reader.owner >= 0
    numbers = reader.owner[read]

    def hook(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        # A tensor of its own: the gradient by the shared one would be the sum over all that read it.
        features = arguments[0]
        values = features.detach()
        own = features.view_as(features) if features.requires_grad else features.detach().requires_grad_()

        def add(gradient: Tensor) -> None:
            product = gradient.detach() * values.detach()
            if not isinstance(module, nn.Linear):
                product = product.flatten(2).sum(2)
            product = product.reshape(len(found), -1, product.shape[-1]).sum(1)
            found.index_add_(1, numbers, product[:, read].double())

        own.register_hook(add)
        return (own, *arguments[1:])

    return hook


def _from_weights(pieces: Sequence[Slice], tensors: Mapping[str, Tensor]) -> float:
    """Weights times gradient over all that is read of a group: the gradient by its mask, summed over the batch."""
    total = 0.0
    for piece in pieces:
        weight = tensors[piece.tensor]
        if weight.grad is not None:
            indices = torch.tensor(piece.indices)
            of_each = (part.detach().index_select(piece.dim, indices) for part in (weight, weight.grad))
            total += float(torch.mul(*of_each).sum())
    return total


@contextmanager
def _only_these_learn(model: nn.Module, learning: Iterable[Tensor]) -> Iterator[None]:
    """Gradients for these parameters alone, and afterwards all as it was: a third of the time of a backward pass."""
    chosen = {id(tensor) for tensor in learning}
    before = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    for parameter, _, _ in before:
        parameter.requires_grad_(id(parameter) in chosen)
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, required, gradient in before:
            parameter.requires_grad_(required)
            parameter.grad = gradient


def _mean_loss(model: nn.Module, batches: Iterable[Batch], loss: Loss) -> float:
    total, samples = 0.0, 0
    with torch.no_grad():
        for inputs, target in batches:
            total += float(loss(call(model, inputs)[0], target)) * len(target)
            samples += len(target)
    return total / max(samples, 1)
