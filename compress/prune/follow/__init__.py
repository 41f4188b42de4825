"""Follow channels through a model: trace it, walk the graph, apply each operator's rule."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from compress.prune.channels import Channels, Group, LeftAlone
from compress.prune.follow.rules import RULES, Rule
from compress.prune.follow.silence import is_silent
from compress.prune.follow.site import Axes, Followed, Site, followed, unknown
from compress.prune.follow.splits import RESHAPES, shunned
from compress.prune.follow.trace import module_path, operator_name, traced
from compress.prune.plan import named_tensors
from export.errors import InputError

CONSTANTS = ("aten.zeros.default", "aten.full.default", "aten.new_zeros.default", "aten.zeros_like.default")
"""What modules make zeros by; nn.LSTM its first state, by its own `hidden_size`."""


@dataclass(frozen=True)
class Following:
    """What can be removed from a model, and what is left alone and why."""

    groups: tuple[Group, ...]
    left_alone: tuple[LeftAlone, ...]


def follow(model: nn.Module, example_inputs: Mapping[str, Tensor], exclude: Sequence[str] = ()) -> Following:
    """Find the groups of slices that can go without changing the meaning of any other channel.

    Args:
        model: in eval mode.
        example_inputs: see export.calling; their sizes are only examples.
        exclude: glob patterns of module paths whose parameters keep their shape.

    Raises:
        InputError: a pattern of `exclude` names no module.
        UnsupportedError: the model cannot be traced.
    """
    _refuse_empty_patterns(model, exclude)
    program = traced(model, example_inputs)
    channels = Channels()
    values = _owned(model, program, channels, exclude)
    modules = dict(model.named_modules())
    for node in program.graph.nodes:
        if node.op == "call_function":
            values[node] = _result(node, values, channels, modules)
        elif node.op == "output":
            for axis in _axes_of(node, values):
                channels.pin(axis, "they are the model's output")
        elif node not in values:
            values[node] = _plain(node)
    return Following(channels.groups(), channels.left_alone())


def _owned(
    model: nn.Module, program: ExportedProgram, channels: Channels, exclude: Sequence[str]
) -> dict[fx.Node, Any]:
    """Ids for the axes of every floating-point parameter and buffer; a tied one has one set of ids."""
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    tensors = named_tensors(model)
    modules = dict(model.named_modules())
    known: dict[int, Followed] = {}
    values: dict[fx.Node, Any] = {}
    for node in program.graph.find_nodes(op="placeholder"):
        tensor = tensors.get(names.get(node.name, ""))
        if tensor is None or not tensor.is_floating_point():
            continue
        if id(tensor) not in known:
            known[id(tensor)] = _fresh(names[node.name], tensor, channels)
        values[node] = known[id(tensor)]
        _keep_excluded(names[node.name], values[node], channels, exclude)
        _keep_fused(names[node.name], values[node], channels, modules)
    return values


def _fresh(name: str, tensor: Tensor, channels: Channels) -> Followed:
    shape = tuple(tensor.shape)
    return Followed(shape, tuple(channels.axis(name, dim, size) for dim, size in enumerate(shape)), silent=True)


def _keep_excluded(name: str, value: Followed, channels: Channels, exclude: Sequence[str]) -> None:
    for pattern in exclude:
        if any(fnmatchcase(path, pattern) for path in _parents(name)):
            for axis in value.axes:
                channels.pin(axis, f"the recipe excludes '{pattern}'")


def _keep_fused(name: str, value: Followed, channels: Channels, modules: Mapping[str, nn.Module]) -> None:
    for path in ("", *_parents(name)):
        if isinstance(modules.get(path), nn.MultiheadAttention):
            for axis in value.axes:
                channels.pin(axis, "nn.MultiheadAttention checks its width; see compress.prune.rewrite")


def _result(node: fx.Node, values: Mapping[fx.Node, Any], channels: Channels, modules: Mapping[str, nn.Module]) -> Any:
    arguments, options = _arguments(node, values)
    if node.target is operator.getitem:
        return arguments[0][arguments[1]]
    nothing_to_follow = not any(each.followed for each in followed(arguments, options))
    if nothing_to_follow or node.meta.get("val") is None:  # an assertion gives nothing
        return _plain(node)
    name, path = operator_name(node), module_path(node)
    shapes = _shapes(node.meta.get("val"))
    where = shunned(node) if node.target in RESHAPES else frozenset[int]()
    site = Site(channels, name, path, shapes[0] if len(shapes) == 1 else (), modules.get(path), where)
    rule: Rule = RULES.get(name, unknown)
    axes = rule(site, *arguments, **options)
    given = axes if isinstance(axes, list) else [axes]
    given += [(None,) * len(shape) for shape in shapes[len(given) :]]  # such as the places of the maxima
    silent = [is_silent(name, arguments, options, each) for each in given]
    results = [Followed(*each) for each in zip(shapes, given, silent, strict=False)]
    if not all(map(_fits, results)):  # an overload that the rule did not foresee
        unknown(site, *arguments, **options)
        return _plain(node)
    return results[0] if isinstance(node.meta.get("val"), Tensor) else tuple(results)


def _arguments(node: fx.Node, values: Mapping[fx.Node, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The node's arguments with every node replaced by its value."""

    def replaced(argument: Any) -> Any:
        if isinstance(argument, fx.Node):
            return values[argument]
        if isinstance(argument, list | tuple):
            return tuple(map(replaced, argument))
        return argument

    return tuple(map(replaced, node.args)), {name: replaced(value) for name, value in node.kwargs.items()}


def _fits(value: Followed) -> bool:
    sizes = [size if axis is None else len(axis) for size, axis in zip(value.shape, value.axes, strict=False)]
    return len(value.axes) == len(value.shape) and tuple(sizes) == value.shape


def _plain(node: fx.Node) -> Any:
    """A value on which nothing can be removed."""
    value = node.meta.get("val")
    made_in = module_path(node) if str(node.target) in CONSTANTS else ""
    several = tuple(Followed(shape, (None,) * len(shape), made_in=made_in) for shape in _shapes(value))
    return several[0] if isinstance(value, Tensor) else several


def _shapes(value: Any) -> list[tuple[int, ...]]:
    if isinstance(value, list | tuple):
        return [shape for each in value for shape in _shapes(each)]
    return [tuple(int(size) for size in value.shape)] if isinstance(value, Tensor) else []


def _axes_of(node: fx.Node, values: Mapping[fx.Node, Any]) -> Axes:
    return tuple(axis for each in followed(_arguments(node, values)[0]) for axis in each.axes)


def _refuse_empty_patterns(model: nn.Module, exclude: Sequence[str]) -> None:
    paths = [path for path, _ in model.named_modules() if path]
    for pattern in exclude:
        if not any(fnmatchcase(path, pattern) for path in paths):
            raise InputError(
                f"prune.exclude: '{pattern}' matches no module; the model has {', '.join(paths[:8])}"
                + (f" and {len(paths) - 8} more" if len(paths) > 8 else "")
            )


def _parents(name: str) -> list[str]:
    """`layer1.0.conv1.weight` -> layer1, layer1.0, layer1.0.conv1."""
    parts = name.split(".")[:-1]
    return [".".join(parts[: end + 1]) for end in range(len(parts))]
