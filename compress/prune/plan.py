"""PrunePlan: which indices of which tensors are removed; and applying it to a model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from compress.prune.blocks import Block, inside, skip, skipped_in
from compress.prune.channels import Group
from compress.prune.rewrite import rewrite, rewritten_in
from compress.prune.sizes import output_axis, rescale_rms_norms, sizes_of, update_sizes
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
    """All that one pruning step does. With it and the weights, the pruned model is rebuilt from the original's code.

    Args:
        cuts: of the tensors, as they are called after the rewriting.
        skipped: paths of the modules that are replaced by an identity or, as branches, by nothing, see compress.prune.blocks.
        tuples: those of `skipped` that return their tensor as a tuple of one.
        branches: those of `skipped` whose result concatenations do without.
        rewritten: paths of the modules that were put into another form first, see compress.prune.rewrite.
    """

    cuts: tuple[Cut, ...]
    skipped: tuple[str, ...] = ()
    tuples: tuple[str, ...] = ()
    rewritten: tuple[str, ...] = ()
    branches: tuple[str, ...] = ()

    @staticmethod
    def of(model: nn.Module, groups: Iterable[Group], skipped: Iterable[Block] = ()) -> PrunePlan:
        """The plan that removes these groups and skips these blocks, and what is rewritten or skipped already.

        Args:
            groups: of the model, with or without the blocks; with a branch go all groups that are read of it.
        """
        blocks = {path: block for block in (*skipped_in(model), *skipped) for path in block.paths}
        branches = tuple(sorted(path for path, block in blocks.items() if block.is_branch))
        removed: dict[tuple[str, int], set[int]] = {}
        for group in groups:
            for piece in group.slices:
                removed.setdefault((piece.tensor, piece.dim), set()).update(piece.indices)
        tensors = named_tensors(model)
        return PrunePlan(
            tuple(
                Cut(name, dim, tensors[name].shape[dim], tuple(sorted(indices)))
                for (name, dim), indices in sorted(removed.items())
                if not _inside(name, branches if name in tensors else blocks)
            ),
            tuple(sorted(blocks)),
            tuple(sorted(path for path, block in blocks.items() if block.in_tuple)),
            rewritten_in(model),
            branches,
        )

    def to_json(self) -> str:
        """A readable document, one line a cut, the same bytes for the same plan."""
        lines = ",\n".join("  " + json.dumps(asdict(cut)) for cut in self.cuts)
        lists = "".join(f'"{key}": {json.dumps(paths)}, ' for key, paths in self._lists().items() if paths)
        return f'{{"version": 1, {lists}"cuts": [\n{lines}\n]}}\n'

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
            lists = {key: _read_paths(document.get(key, [])) for key in PrunePlan(())._lists()}
            return PrunePlan(tuple(_read_cut(**cut) for cut in document["cuts"]), **lists)
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"pruning plan: not a plan that `to_json` wrote ({error}); run the prune step again"
            ) from error

    def blocks(self) -> tuple[Block, ...]:
        """The skipped blocks."""
        return tuple(Block(path, path in self.tuples, path in self.branches) for path in self.skipped)

    def _lists(self) -> dict[str, tuple[str, ...]]:
        return {
            "skipped": self.skipped,
            "tuples": self.tuples,
            "rewritten": self.rewritten,
            "branches": self.branches,
        }


def apply(model: nn.Module, plan: PrunePlan) -> None:
    """Rewrite, cut and skip in place: parameters and buffers, and the sizes that modules keep beside them.

    Raises:
        InputError: the plan was made for another model; the model computes what it did then.
    """
    rewrite(model, plan.rewritten)
    tensors = named_tensors(model)
    cuts = [cut for cut in plan.cuts if cut.tensor in tensors or not _inside(cut.tensor, plan.skipped)]
    for cut in cuts:
        _refuse_misfit(cut, tensors)
    skip(model, plan.blocks())
    kept: dict[int, Tensor] = {id(tensor): tensor for tensor in tensors.values()}
    for cut in cuts:
        original = id(tensors[cut.tensor])
        kept[original] = _without(kept[original], cut)
    before = {path: sizes_of(module) for path, module in model.named_modules(remove_duplicate=False)}
    rescale_rms_norms(model, kept)
    for module in model.modules():
        _replace_tensors(module, kept)
    update_sizes(model, before, _removed_outputs(model, cuts))


def zero(model: nn.Module, plan: PrunePlan) -> None:
    """Rewrite and skip as `apply` does, but set every slice that it removes to zero instead, in place.

    A branch stays; what reads it has zeros for it.
    """
    rewrite(model, plan.rewritten)
    tensors = named_tensors(model)
    with torch.no_grad():
        for cut in plan.cuts:
            if cut.tensor in tensors or not _inside(cut.tensor, plan.skipped):
                tensor = tensors[cut.tensor]
                tensor.index_fill_(cut.dim, torch.tensor(cut.removed, device=tensor.device), 0.0)
    skip(model, [block for block in plan.blocks() if not block.is_branch])


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name; a tied one under each of its names."""
    return dict([*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)])


def _read_cut(tensor: str, dim: int, size: int, removed: list[int]) -> Cut:
    if not (isinstance(tensor, str) and removed and 0 <= min(removed) <= max(removed) < size):
        raise ValueError(f"impossible cut of {tensor!r}")
    return Cut(tensor, dim, size, tuple(removed))


def _read_paths(paths: list[str]) -> tuple[str, ...]:
    if not (isinstance(paths, list) and all(isinstance(path, str) for path in paths)):
        raise ValueError(f"impossible list of modules {paths!r}")
    return tuple(paths)


def _inside(tensor: str, paths: Iterable[str]) -> bool:
    return any(inside(tensor, path) for path in paths)


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


def _removed_outputs(model: nn.Module, cuts: Iterable[Cut]) -> dict[str, tuple[int, ...]]:
    modules = dict(model.named_modules())
    paths = [(cut.tensor.removesuffix(".weight"), cut) for cut in cuts]
    return {path: cut.removed for path, cut in paths if path in modules and cut.dim == output_axis(modules[path])}


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
