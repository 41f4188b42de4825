"""torch.export with names: any model as a program of named inputs, outputs and dynamic axes."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, replace
from pathlib import Path
from traceback import extract_tb

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from export.calling import call
from export.errors import InputError, UnsupportedError, in_words
from export.model import Axis, TensorSpec
from export.recurrent import kept_whole

DynamicAxes = Mapping[str, Mapping[int, str]]
"""Input name -> axis -> axis name; axes of one name always have the same size."""


@dataclass(frozen=True)
class Traced:
    """A traced model. `program` takes one argument, the dict of its inputs, and returns a tuple of tensors.

    `axis_names` leads from torch's symbols ("s77") to the names of the dynamic axes.
    """

    program: ExportedProgram
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    axis_names: Mapping[str, str]


def trace(
    model: nn.Module, example_inputs: Mapping[str, Tensor], dynamic_axes: DynamicAxes, output_names: Sequence[str]
) -> Traced:
    """Trace the model in eval mode; its training flags are left as found.

    Args:
        example_inputs: by name, in the order of `forward`; every dynamic axis has 2 or more entries.
        output_names: one for each output tensor.

    Raises:
        InputError: if the model refuses the example, or names do not fit inputs or outputs.
        UnsupportedError: if torch.export cannot follow the model or finds a dynamic axis fixed.
    """
    _check_axes(example_inputs, dynamic_axes)
    with evaluating(model):
        _check_outputs(model, example_inputs, output_names)
        program = _export(model, example_inputs, dynamic_axes)
    signature = program.graph_signature
    inputs = _specs(program, example_inputs, signature.user_inputs)
    outputs = _specs(program, output_names, signature.user_outputs)
    names = _axis_names(inputs, dynamic_axes)
    return Traced(program, _renamed(inputs, names), _renamed(outputs, names), names)


def rename(expression: str, axis_names: Mapping[str, str]) -> str:
    """An axis as torch writes it, with names instead of symbols: "s77//2" -> "height//2"."""
    return re.sub(r"\w+", lambda word: axis_names.get(word[0], word[0]), expression)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode and without gradients; afterwards every module's training flag is as it was."""
    training = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with torch.no_grad():
            yield
    finally:
        for module, flag in training.items():
            module.training = flag


@contextmanager
def quiet() -> Iterator[None]:
    """No log lines and no warnings from the exporters: what matters is raised."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


class _ByName(nn.Module):
    """The model as a function of one dict of named inputs, so that every signature is traced alike."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        return call(self.model, inputs)


def _check_axes(example_inputs: Mapping[str, Tensor], dynamic_axes: DynamicAxes) -> None:
    for name, axes in dynamic_axes.items():
        if name not in example_inputs:
            raise InputError(f"dynamic_axes: '{name}' is not an input; inputs: {', '.join(example_inputs)}")
        shape = example_inputs[name].shape
        for axis, axis_name in axes.items():
            if not 0 <= axis < len(shape):
                raise InputError(f"dynamic_axes['{name}']: axis {axis} ('{axis_name}') is not in 0..{len(shape) - 1}")
            if shape[axis] < 2:
                raise InputError(
                    f"example_inputs['{name}']: the dynamic axis {axis} ('{axis_name}') has size {shape[axis]}; "
                    "torch.export takes sizes below 2 for constants. Give an example of 2 or more"
                )


def _check_outputs(model: nn.Module, example_inputs: Mapping[str, Tensor], output_names: Sequence[str]) -> None:
    try:
        outputs = call(model, example_inputs)
    except Exception as error:  # the user's forward can raise anything
        shapes = {name: tuple(tensor.shape) for name, tensor in example_inputs.items()}
        raise InputError(f"the model fails on its example inputs {shapes}: {in_words(error)}") from error
    if len(outputs) != len(output_names) or len(set(output_names)) != len(output_names):
        raise InputError(
            f"output_names: found {list(output_names)}, but the model returns {len(outputs)} tensors; "
            "give each a name of its own"
        )


def _export(model: nn.Module, example_inputs: Mapping[str, Tensor], dynamic_axes: DynamicAxes) -> ExportedProgram:
    dims = {name: dict.fromkeys(dynamic_axes.get(name, {}), Dim.DYNAMIC) for name in example_inputs}
    # Of a view (a batch cut at its longest text) torch 2.13 guards the strides too, and cannot convert the guards.
    example = {name: tensor.contiguous() for name, tensor in example_inputs.items()}
    try:
        with quiet(), kept_whole(), redirect_stderr(io.StringIO()):  # it prints the graph of a failure there
            program = torch.export.export(_ByName(model), (example,), dynamic_shapes=(dims,))
    except Exception as error:  # torch.export raises whatever the model's own code meets under tracing
        raise UnsupportedError(_explain(error, dynamic_axes)) from error
    _drop_empty_operands(program)
    return program


def _drop_empty_operands(program: ExportedProgram) -> None:
    """torch.cat passes over tensors of one axis without elements, which ONNX refuses beside others."""
    for node in program.graph.find_nodes(op="call_function", target=torch.ops.aten.cat.default):
        operands, *rest = node.args
        filled = [each for each in operands if each.meta["val"].shape != (0,)]
        if 0 < len(filled) < len(operands):
            node.args = (filled, *rest)


def _explain(error: Exception, dynamic_axes: DynamicAxes) -> str:
    fixed = re.search(r"L\['inputs'\]\['(.+?)'\]\.size\(\)\[(\d+)\] as dynamic but .* constant \((\d+)\)", str(error))
    if fixed:
        name, axis, size = fixed[1], int(fixed[2]), fixed[3]
        return (
            f"export: the model fixes the dynamic axis '{dynamic_axes[name][axis]}' (input '{name}', axis {axis}) to "
            f"{size}; compute sizes from x.shape instead of constants, or take the axis out of dynamic_axes"
        )
    advice = "rewrite this place with torch operators that do not depend on values (torch.where instead of if)"
    return f"export: torch.export cannot follow the model{_place(error)}: {in_words(error)}; {advice}"


def _place(error: Exception) -> str:
    """File and line of the innermost frame that belongs neither to torch nor to this toolkit."""
    torch_folder, own = str(Path(torch.__file__).parent), str(Path(__file__).parent)
    frames = [
        frame for frame in extract_tb(error.__traceback__) if not frame.filename.startswith((torch_folder, own, "<"))
    ]
    return f" at {Path(frames[-1].filename).name}:{frames[-1].lineno} ({frames[-1].name})" if frames else ""


def _specs(program: ExportedProgram, names: Iterable[str], node_names: Iterable[object]) -> tuple[TensorSpec, ...]:
    """Specs as traced: sizes are ints, and symbols or expressions of symbols as text."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    return tuple(_spec(name, values[str(node_name)]) for name, node_name in zip(names, node_names, strict=True))


def _spec(name: str, value: Tensor) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else str(size) for size in value.shape)
    return TensorSpec(name, str(value.dtype).removeprefix("torch."), shape)


def _renamed(specs: Sequence[TensorSpec], axis_names: Mapping[str, str]) -> tuple[TensorSpec, ...]:
    def named(axis: Axis) -> Axis:
        return rename(axis, axis_names) if isinstance(axis, str) else axis

    return tuple(replace(spec, shape=tuple(map(named, spec.shape))) for spec in specs)


def _axis_names(inputs: Sequence[TensorSpec], dynamic_axes: DynamicAxes) -> dict[str, str]:
    names: dict[str, str] = {}
    for spec in inputs:
        for axis, name in dynamic_axes.get(spec.name, {}).items():
            known = names.setdefault(str(spec.shape[axis]), name)
            if known != name:
                raise UnsupportedError(
                    f"export: the dynamic axes '{known}' and '{name}' always have the same size in this model; "
                    "give them one name in dynamic_axes"
                )
    return names
