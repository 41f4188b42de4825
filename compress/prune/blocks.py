"""Depth: whole blocks that may go because an addition carries their input past them, and what is put in their place.

A block is skipped by a `Skip`, which hands its input on. What is left without it is what a residual network computes
when the block adds nothing. Source: Veit et al. 2016, arXiv:1605.06431. A branch of a concatenation (see
compress.prune.branches) is skipped by an `Absent`, of which a concatenation takes nothing.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from compress.prune.separate_attention import unfused, without_nested_tensors
from export.calling import call
from export.errors import InputError

THROUGH = {
    "_batch_norm_impl_index",
    "_fused_rms_norm",
    "_native_batch_norm_legit_no_training",
    "_to_copy",
    "add",
    "add_",
    "alias",
    "clone",
    "contiguous",
    "cudnn_batch_norm",
    "detach",
    "dropout",
    "elu",
    "elu_",
    "gelu",
    "hardswish",
    "hardswish_",
    "hardtanh",
    "hardtanh_",
    "leaky_relu",
    "leaky_relu_",
    "native_batch_norm",
    "native_group_norm",
    "native_layer_norm",
    "relu",
    "relu_",
    "sigmoid",
    "silu",
    "silu_",
    "tanh",
}
"""Operators on the way from a block's input to its end that leave the input recognisable."""


@dataclass(frozen=True)
class Block:
    """A module that may be skipped as a whole.

    Args:
        path: as in `model.named_modules()`.
        in_tuple: it returns its tensor as a tuple of one.
        is_branch: what it returns is concatenated, and is left out there.
        feeding: paths of modules that work for it alone and go with it.
    """

    path: str
    in_tuple: bool = False
    is_branch: bool = False
    feeding: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        return (*self.feeding, self.path)

    def holds(self, path: str) -> bool:
        """Whether a module or tensor goes with it."""
        return any(inside(path, each) for each in self.paths)


class Skip(nn.Module):
    """Returns its first argument, as a tuple of one where the skipped module returned one.

    Other attributes are asked of the skipped module, emptied of its tensors: nn.TransformerEncoder, for one, reads
    `layers[0].self_attn.batch_first`.
    """

    def __init__(self, skipped: nn.Module, in_tuple: bool = False) -> None:
        super().__init__()
        self.in_tuple = in_tuple
        self._emptied = (_emptied(skipped),)  # inside a tuple it is no submodule

    def forward(self, *arguments: Any, **options: Any) -> Any:
        first = _first_tensor(arguments, options)
        return (first,) if self.in_tuple else first

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__") or "_emptied" not in self.__dict__:
                raise
            return getattr(self._emptied[0], name)


class Absent(Skip):
    """Returns a tensor of no elements and one axis, which torch.cat passes over, whatever the others' shape."""

    def forward(self, *arguments: Any, **options: Any) -> Tensor:
        first = _first_tensor(arguments, options)
        return torch.empty(0) if first is None else first.new_empty(0)


def inside(path: str, module: str) -> bool:
    """Whether a module or tensor lies in the module, or is it."""
    return path == module or path.startswith(f"{module}.")


def blocks_of(model: nn.Module, example_inputs: Mapping[str, Tensor]) -> tuple[Block, ...]:
    """The modules that may be skipped, in the order in which the model owns them; none lies inside another.

    Such a module holds weight matrices, is called exactly once and returns a tensor of the shape and type of its
    first one, which additions carry to its end past all its weights (normalisations and activations may lie on that
    way). A container of nothing but such modules is not one itself, and neither is the model.

    Args:
        model: in eval mode; it is run once.
    """
    paths = _paths(model)
    carried = _Carried()
    calls: Counter[str] = Counter()
    found: dict[str, Block] = {}

    def enter(path: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> None:
        calls[path] += 1
        if (first := _first_tensor(arguments, options)) is not None:
            carried.start(path, first)

    def leave(path: str, arguments: Sequence[Any], options: Mapping[str, Any], result: Any) -> None:
        first, in_tuple = _first_tensor(arguments, options), isinstance(result, tuple) and len(result) == 1
        out = result[0] if in_tuple else result
        if isinstance(out, Tensor) and first is not None and carried.arrives(path, out):
            same = out.shape == first.shape and out.dtype == first.dtype
            found.update({path: Block(path, in_tuple)} if same else {})

    handles = [
        handle
        for path, module in paths.items()
        for handle in (
            module.register_forward_pre_hook(_before(enter, path), with_kwargs=True),
            module.register_forward_hook(_after(leave, path), with_kwargs=True),
        )
    ]
    try:
        with torch.no_grad(), unfused(), carried:
            call(model, example_inputs)
    finally:
        for handle in handles:
            handle.remove()
    once = {path: block for path, block in found.items() if calls[path] == 1}
    whole = {path: block for path, block in once.items() if not _is_container(path, once, paths)}
    return tuple(
        whole[path]
        for path in paths
        if path in whole and not any(path != each and inside(path, each) for each in whole)
    )


def skip(model: nn.Module, blocks: Iterable[Block | str]) -> None:
    """Put a `Skip` or `Absent` in the place of each block, in place. A block that is skipped already stays so.

    Raises:
        InputError: the model has no such module; the model is unchanged then.
    """
    modules = dict(model.named_modules())
    chosen = [Block(each) if isinstance(each, str) else each for each in blocks]
    for path in (path for block in chosen for path in block.paths):
        if not path or path not in modules:
            raise InputError(
                f"pruning plan: {path!r}: the model has no such block; apply the plan to the model it was made from"
            )
    for block in chosen:
        for path in block.paths:
            if not isinstance(modules[path], Skip):
                parent, _, name = path.rpartition(".")
                skipped = (Absent if block.is_branch else Skip)(modules[path], block.in_tuple)
                setattr(modules[parent], name, skipped)
    without_nested_tensors(model)


def skipped_in(model: nn.Module) -> tuple[Block, ...]:
    """The blocks that are skipped in a model."""
    return tuple(
        Block(path, each.in_tuple, isinstance(each, Absent))
        for path, each in model.named_modules()
        if isinstance(each, Skip)
    )


class _Carried(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Which tensors are a module's first argument plus something.

    Args of the values: for each tensor by its id, module path -> whether an addition lies on the way.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._ways: dict[int, dict[str, bool]] = {}
        self._alive: list[Tensor] = []  # an id is a tensor's own only while it lives

    def start(self, path: str, tensor: Tensor) -> None:
        self._alive.append(tensor)
        self._ways[id(tensor)] = self._ways.get(id(tensor), {}) | {path: False}

    def arrives(self, path: str, tensor: Tensor) -> bool:
        return self._ways.get(id(tensor), {}).get(path, False)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.rpartition("::")[2]
        out = result[0] if isinstance(result, tuple | list) and result else result
        if name in THROUGH and isinstance(out, Tensor):
            operands = [each for each in args if isinstance(each, Tensor) and each.shape == out.shape]
            adds = name in ("add", "add_") and len(operands) == 2
            ways: dict[str, bool] = {}
            for each in operands:
                for path, added in self._ways.get(id(each), {}).items():
                    ways[path] = ways.get(path, False) or added or adds
            self._alive.append(out)
            self._ways[id(out)] = ways
        return result


def _before(enter: Any, path: str) -> Any:
    return lambda module, arguments, options: enter(path, arguments, options)


def _after(leave: Any, path: str) -> Any:
    return lambda module, arguments, options, result: leave(path, arguments, options, result)


def _paths(model: nn.Module) -> dict[str, nn.Module]:
    """Modules with weight matrices, but the model itself, by path; one that has two paths has neither."""
    named = [(path, module) for path, module in model.named_modules(remove_duplicate=False) if path]
    times = Counter(id(module) for _, module in named)
    return {path: module for path, module in named if times[id(module)] == 1 and _matrices(module)}


def _matrices(module: nn.Module) -> set[str]:
    return {name for name, parameter in module.named_parameters() if parameter.dim() >= 2}


def _is_container(path: str, blocks: Iterable[str], modules: Mapping[str, nn.Module]) -> bool:
    inner = [each.removeprefix(path + ".") for each in blocks if each.startswith(path + ".")]
    return all(any(inside(name, each) for each in inner) for name in _matrices(modules[path]))


def _first_tensor(arguments: Sequence[Any], options: Mapping[str, Any]) -> Tensor | None:
    return next((each for each in (*arguments, *options.values()) if isinstance(each, Tensor)), None)


def _emptied(module: nn.Module) -> nn.Module:
    """A copy without parameters and buffers."""
    hollow = copy.deepcopy(module)
    for each in hollow.modules():
        each._parameters = dict.fromkeys(each._parameters)
        each._buffers = dict.fromkeys(each._buffers)
    return hollow
