"""A traced model as one file that torch computes without its tracing machinery: tensors, and the operators between them as JSON.

torch.export's own format needs all of torch's compiler to be read, which takes a process three times as long as torch itself
(torch 2.13: 9.4 s of CPU time against 3.2), and every process that measures the original begins with it.
"""

from __future__ import annotations

import io
import json
import math
import operator
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node

from export.errors import EnvironmentFailure
from export.files import write_whole

if TYPE_CHECKING:
    from torch.export import ExportedProgram

Program = Callable[..., Sequence[Tensor]]
"""Takes the inputs in their order and gives a tuple of the outputs."""

FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{f"operator.{name}": getattr(operator, name) for name in operator.__all__ if not name.startswith("i")},
    **{f"torch.{name}": getattr(torch, name) for name in dir(torch) if name.startswith("sym_")},
    **{f"math.{name}": getattr(math, name) for name in ("ceil", "floor", "trunc", "sqrt", "prod")},
}
"""What a traced model calls besides torch's operators: arithmetic of sizes."""

CONSTANTS = {"dtype": torch.dtype, "layout": torch.layout, "memory_format": torch.memory_format}
"""Kinds of torch's own constants, each by a name in torch."""


class _Unwritten(Exception):
    """The program holds what this format has no form for, such as a graph inside a graph."""


def write_program(program: ExportedProgram, path: Path) -> None:
    """Write a traced model; where this format has no form for it, in torch's own (.pt2)."""
    try:
        content = _content(program.module(check_guards=False))
    except _Unwritten:
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        content = buffer.getvalue()
    write_whole(path, content)


def read_program(path: Path, names: Sequence[str]) -> Program:
    """The model of a file that `write_program` wrote.

    Weights are plain attributes of one module. Looked up through nested modules they make ResNet-56 at batch 1 1.11-1.13x as
    slow as the eager original; so it is 0.93x, so that no speed-up over torch is flattered (torch 2.13, one thread of Zen 3).

    Args:
        names: of the inputs, in their order.

    Raises:
        EnvironmentFailure: if the file is damaged, or this torch lacks an operator of it.
    """
    if zipfile.is_zipfile(path):
        return _read_pt2(path, names)
    try:
        with safe_open(path, "pt") as file:
            told = json.loads(file.metadata()["program"])
        return _module(told, load_file(path))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise EnvironmentFailure(f"{path.name}: found no torch program; it is damaged, run the recipe again") from error
    except AttributeError as error:
        raise EnvironmentFailure(f"{path.name}: torch {torch.__version__} cannot compute it: {error}") from error


def _content(module: GraphModule) -> bytes:
    tensors: dict[int, tuple[str, Tensor]] = {}
    nodes = []
    for node in module.graph.nodes:
        told = {"name": node.name, "op": node.op}
        if node.op == "get_attr":
            value = _attribute(module, str(node.target))
            told["target"], _ = tensors.setdefault(id(value), (f"tensor_{len(tensors)}", value))
        elif node.op == "call_function":
            told |= {"target": _target(node.target), "args": _plain(node.args), "kwargs": _pairs(node.kwargs)}
        elif node.op == "output":
            told["args"] = _plain(node.args)
        elif node.op != "placeholder":
            raise _Unwritten(node.op)
        nodes.append(told)
    last = [name for name, tensor in tensors.values() if _is_channels_last(tensor)]
    kept = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.values()}
    content: bytes = save(kept, {"program": json.dumps({"nodes": nodes, "channels_last": last})})
    return content


def _attribute(module: nn.Module, path: str) -> Tensor:
    value: Any = module
    for part in path.split("."):
        value = getattr(value, part)
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
        raise _Unwritten(path)
    return value


def _is_channels_last(tensor: Tensor) -> bool:
    return tensor.dim() == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)


def _target(target: Any) -> str:
    if isinstance(target, torch._ops.OpOverload):
        return f"op.{target}"
    name = f"{getattr(target, '__module__', '').lstrip('_')}.{getattr(target, '__name__', '')}"
    if FUNCTIONS.get(name) is not target:
        raise _Unwritten(name)
    return name


def _plain(value: Any) -> Any:
    """An argument as JSON: what JSON has itself, lists, and a mapping of one key, its kind, for all else."""
    if isinstance(value, Node):
        return {"node": value.name}
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, float):
        return {"float": str(value)}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, tuple):
        return {"tuple": [_plain(each) for each in value]}
    if isinstance(value, slice):
        return {"slice": [_plain(each) for each in (value.start, value.stop, value.step)]}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    for kind, held in CONSTANTS.items():
        if isinstance(value, held):
            return {kind: str(value).removeprefix("torch.")}
    raise _Unwritten(type(value).__name__)


def _pairs(values: dict[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in values.items()}


def _module(told: dict[str, Any], tensors: dict[str, Tensor]) -> GraphModule:
    for name in told["channels_last"]:
        tensors[name] = tensors[name].contiguous(memory_format=torch.channels_last)
    graph, made = Graph(), dict[str, Node]()
    for node in told["nodes"]:
        name, op = node["name"], node["op"]
        if op == "placeholder":
            made[name] = graph.placeholder(name)
        elif op == "get_attr":
            made[name] = graph.create_node("get_attr", node["target"], name=name)
        elif op == "call_function":
            arguments = _value(node["args"], made)
            options = {key: _value(value, made) for key, value in node["kwargs"].items()}
            made[name] = graph.create_node("call_function", _called(node["target"]), arguments, options, name)
        else:
            graph.output(*_value(node["args"], made))
    module = GraphModule(tensors, graph)
    for name, tensor in tensors.items():
        module._buffers.pop(name, None)
        object.__setattr__(module, name, tensor)
    return module


def _called(target: str) -> Callable[..., Any]:
    if not target.startswith("op."):
        return FUNCTIONS[target]
    namespace, name, overload = target.split(".")[1:]
    found = getattr(getattr(getattr(torch.ops, namespace), name), overload)
    if not isinstance(found, torch._ops.OpOverload):
        raise ValueError(f"{target} is no operator")
    return found


def _value(plain: Any, made: dict[str, Node]) -> Any:
    if isinstance(plain, list):
        return [_value(each, made) for each in plain]
    if not isinstance(plain, dict):
        return plain
    [(kind, held)] = plain.items()
    if kind == "node":
        return made[held]
    if kind == "float":
        return float(held)
    if kind == "tuple":
        return tuple(_value(each, made) for each in held)
    if kind == "slice":
        return slice(*(_value(each, made) for each in held))
    if kind == "device":
        return torch.device(held)
    found = getattr(torch, held)
    if not isinstance(found, CONSTANTS[kind]):
        raise ValueError(f"{held} is no {kind}")
    return found


def _read_pt2(path: Path, names: Sequence[str]) -> Program:
    try:
        program = torch.export.load(path)
    except (RuntimeError, OSError, ValueError) as error:
        raise EnvironmentFailure(f"{path.name}: torch {torch.__version__} cannot load it: {error}") from error
    module = program.module(check_guards=False)
    return lambda *inputs: module(dict(zip(names, inputs, strict=True)))
