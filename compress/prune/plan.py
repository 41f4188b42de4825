"""PrunePlan: which indices of which tensors are removed; and applying it to a model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from compress.prune.channels import Group
from export.errors import InputError


@dataclass(frozen=True)
class Cut:
    """The indices removed from one axis of one parameter or buffer.

    Args:
        tensor: name in the model, as in its state dict.
        dim: the axis.
        size: of the axis before the cut.
        removed: sorted indices.
    """

    tensor: str
    dim: int
    size: int
    removed: tuple[int, ...]


@dataclass(frozen=True)
class PrunePlan:
    """All cuts of one pruning step. With it and the weights, the pruned model is rebuilt from the original's code."""

    cuts: tuple[Cut, ...]

    @staticmethod
    def of(model: nn.Module, groups: Iterable[Group]) -> PrunePlan:
        """The plan that removes these groups from this model."""
        removed: dict[tuple[str, int], set[int]] = {}
        for group in groups:
            for piece in group.slices:
                removed.setdefault((piece.tensor, piece.dim), set()).update(piece.indices)
        tensors = named_tensors(model)
        return PrunePlan(
            tuple(
                Cut(name, dim, tensors[name].shape[dim], tuple(sorted(indices)))
                for (name, dim), indices in sorted(removed.items())
            )
        )

    def to_json(self) -> str:
        """A readable document, one line a cut, the same bytes for the same plan."""
        lines = ",\n".join("  " + json.dumps(asdict(cut)) for cut in self.cuts)
        return f'{{"version": 1, "cuts": [\n{lines}\n]}}\n'

    @staticmethod
    def from_json(text: str) -> PrunePlan:
        """Read what `to_json` wrote.

        Raises:
            InputError: it is something else.
        """
        try:
            document = json.loads(text)
            if document["version"] != 1:
                raise ValueError(f"version {document['version']}, known: 1")
            return PrunePlan(tuple(_read_cut(**cut) for cut in document["cuts"]))
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"pruning plan: not a plan that `to_json` wrote ({error}); run the prune step again"
            ) from error


def apply(model: nn.Module, plan: PrunePlan) -> None:
    """Cut the model's parameters and buffers in place, and the sizes that its modules keep beside them.

    Raises:
        InputError: the plan was made for another model; the model is unchanged then.
    """
    tensors = named_tensors(model)
    for cut in plan.cuts:
        _refuse_misfit(cut, tensors)
    kept: dict[int, Tensor] = {id(tensor): tensor for tensor in tensors.values()}
    for cut in plan.cuts:
        original = id(tensors[cut.tensor])
        kept[original] = _without(kept[original], cut)
    before = {path: _sizes(module) for path, module in model.named_modules()}
    for module in model.modules():
        _replace_tensors(module, kept)
    for path, module in model.named_modules():
        _update_sizes(module, before[path])
    for path, module in model.named_modules():
        _update_heads(module, path, before)


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name; a tied one under each of its names."""
    return dict([*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)])


LAYER_SIZES: dict[type[nn.Module], dict[str, tuple[str, int]]] = {
    nn.Linear: {"out_features": ("weight", 0), "in_features": ("weight", 1)},
    nn.Embedding: {"embedding_dim": ("weight", 1)},
    nn.Conv1d: {"out_channels": ("weight", 0)},
    nn.Conv2d: {"out_channels": ("weight", 0)},
    nn.Conv3d: {"out_channels": ("weight", 0)},
    nn.ConvTranspose1d: {"in_channels": ("weight", 0), "out_channels": ("weight", 1)},
    nn.ConvTranspose2d: {"in_channels": ("weight", 0), "out_channels": ("weight", 1)},
    nn.ConvTranspose3d: {"in_channels": ("weight", 0), "out_channels": ("weight", 1)},
    nn.BatchNorm1d: {"num_features": ("running_mean", 0)},
    nn.BatchNorm2d: {"num_features": ("running_mean", 0)},
    nn.BatchNorm3d: {"num_features": ("running_mean", 0)},
    nn.PReLU: {"num_parameters": ("weight", 0)},
}
"""Layer -> the attribute that repeats a size of one of its tensors."""

ATTENTION_SIZES = ("num_attention_heads", "num_heads", "n_heads", "all_head_size")
"""Attributes of attention modules that shrink with the rows of the projections they hold."""


def _read_cut(tensor: str, dim: int, size: int, removed: list[int]) -> Cut:
    if not (isinstance(tensor, str) and removed and 0 <= min(removed) <= max(removed) < size):
        raise ValueError(f"impossible cut of {tensor!r}")
    return Cut(tensor, dim, size, tuple(removed))


def _refuse_misfit(cut: Cut, tensors: dict[str, Tensor]) -> None:
    place = f"pruning plan: {cut.tensor}"
    if cut.tensor not in tensors:
        raise InputError(f"{place}: the model has no such tensor; apply the plan to the model it was made from")
    shape = tuple(tensors[cut.tensor].shape)
    if cut.dim >= len(shape) or shape[cut.dim] != cut.size:
        raise InputError(
            f"{place}: axis {cut.dim} must have {cut.size} entries, found shape {shape}; "
            "apply the plan to the model it was made from, once"
        )


def _without(tensor: Tensor, cut: Cut) -> Tensor:
    removed = set(cut.removed)
    stays = torch.tensor([index for index in range(cut.size) if index not in removed], device=tensor.device)
    smaller = tensor.detach().index_select(cut.dim, stays)
    return nn.Parameter(smaller, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else smaller


def _replace_tensors(module: nn.Module, kept: dict[int, Tensor]) -> None:
    """Tied tensors stay tied: the same old object becomes the same new one."""
    for name, tensor in _own_tensors(module):
        setattr(module, name, kept[id(tensor)])


def _own_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from list(module.named_parameters(recurse=False, remove_duplicate=False))
    yield from list(module.named_buffers(recurse=False, remove_duplicate=False))


def _sizes(module: nn.Module) -> dict[str, int]:
    """The attributes of a module that `apply` may have to change, and the rows of its weight."""
    names = (*ATTENTION_SIZES, "in_channels", "out_channels", "groups")
    sizes = {name: getattr(module, name) for name in names if isinstance(getattr(module, name, None), int)}
    weight = getattr(module, "weight", None)
    return sizes | ({"rows": weight.shape[0]} if isinstance(weight, Tensor) and weight.dim() else {})


def _update_sizes(module: nn.Module, before: dict[str, int]) -> None:
    for attribute, (tensor, dim) in LAYER_SIZES.get(type(module), {}).items():
        owned = getattr(module, tensor)
        if isinstance(owned, Tensor):
            setattr(module, attribute, owned.shape[dim])
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        rows, columns = module.weight.shape[:2]
        if before["groups"] == before["in_channels"] > 1:  # depthwise: as many groups as channels are left
            module.groups = rows * before["in_channels"] // before["out_channels"]
        module.in_channels = columns * module.groups


def _update_heads(module: nn.Module, path: str, before: dict[str, dict[str, int]]) -> None:
    """Shrink the head count of a module as its projections shrank, where they all shrank alike."""
    projections = [
        (before[f"{path}.{name}" if path else name]["rows"], child.weight.shape[0])
        for name, child in module.named_children()
        if isinstance(child, nn.Linear)
    ]
    shrunk = {(old, new) for old, new in projections if new < old}
    if len(shrunk) == 1:
        ((old, new),) = shrunk
        for attribute in ATTENTION_SIZES:
            if attribute in before[path]:
                setattr(module, attribute, before[path][attribute] * new // old)
