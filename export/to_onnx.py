"""torch -> ONNX by the dynamo exporter, with named inputs, outputs and dynamic axes.

There is no second exporter to fall back to: a model that cannot be exported is refused in one sentence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from export.clean import write_clean
from export.errors import UnsupportedError
from export.model import OnnxModel, TensorSpec
from export.operator_table import made_once
from export.pooling import simplify_pooling
from export.recurrent import kept_whole, refuse_unwritten, simplify_recurrent
from export.torch_program import write_program
from export.trace import DynamicAxes, Traced, quiet, rename, trace

OPSET = 18
"""What the exporter's operators are written for; a newer opset is a conversion that no target here gains from."""


def to_onnx(
    model: nn.Module,
    example_inputs: Mapping[str, Tensor],
    dynamic_axes: DynamicAxes,
    output_names: Sequence[str],
    path: Path,
    opset: int = OPSET,
    reference: Path | None = None,
) -> OnnxModel:
    """Export the model in eval mode into one file, weights inside; its training flags are left as found.

    Args:
        model: of any signature, see `export.calling.call`.
        example_inputs: by ONNX name; every dynamic axis has 2 or more entries.
        dynamic_axes: input name -> axis -> axis name; axes of one name always have the same size.
        output_names: one for each output tensor of the model.
        path: of the .onnx file, in an existing folder.
        reference: of a file for the same model as a torch program, see `save_reference`; tracing is done once for both.

    Raises:
        InputError: if the model refuses the example, or names do not fit inputs or outputs.
        UnsupportedError: if an operator has no ONNX form, or the model fixes a dynamic axis.
        QualityError: if a weight is NaN or Inf.
    """
    traced = trace(model, example_inputs, dynamic_axes, output_names)
    if reference is not None:
        _save(traced, reference)  # before the conversion, which may leave its program changed
    proto = _convert(traced.program, list(example_inputs), list(output_names), opset)
    for value in (*proto.graph.input, *proto.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = rename(dim.dim_param, traced.axis_names)
    refuse_unwritten(traced.program, proto.graph)
    simplify_recurrent(proto.graph)
    simplify_pooling(proto.graph)
    _name_weights(proto.graph)
    if (found := _default_opset(proto)) != opset:
        raise UnsupportedError(
            f"export: opset {opset} cannot express this model, the exporter needs opset {found}; set opset to {found}"
        )
    return write_clean(proto, path)


def save_reference(
    model: nn.Module,
    example_inputs: Mapping[str, Tensor],
    dynamic_axes: DynamicAxes,
    path: Path,
    output_names: Sequence[str],
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Write the model as a torch program (`export.torch_program`) that runs without the user's code, in a worker process.

    It takes the inputs in the order of the specs and returns a tuple of the outputs.

    Returns:
        The specs of the inputs and of the outputs.

    Raises:
        InputError, UnsupportedError: as `to_onnx`.
    """
    traced = trace(model, example_inputs, dynamic_axes, output_names)
    _save(traced, path)
    return traced.inputs, traced.outputs


def _save(traced: Traced, path: Path) -> None:
    for node in traced.program.graph.nodes:
        node.meta.pop("stack_trace", None)  # file paths of this machine
    with quiet():
        write_program(traced.program, path)


def _convert(program: ExportedProgram, inputs: list[str], outputs: list[str], opset: int) -> onnx.ModelProto:
    """Converted without gradients, as it was traced: with them, attention beside a trained bias (T5's) is taken apart into other
    steps, whose results lie in memory in another order than the program's views expect.
    """
    try:
        with quiet(), kept_whole(), made_once(), torch.no_grad():
            exported = torch.onnx.export(
                program,
                input_names=inputs,
                output_names=outputs,
                opset_version=opset,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise UnsupportedError(_explain(error, program)) from error
    assert exported is not None  # None is what the legacy exporter returns
    return exported.model_proto


def _explain(error: BaseException, program: ExportedProgram) -> str:
    """The innermost cause tells the operator; the traced program tells the module that uses it."""
    while error.__cause__ is not None:
        error = error.__cause__
    cause = str(error).strip()
    found = re.search(r"op='([\w:.]+)', overload='(\w+)'", cause)
    if found is None:
        return f"export: the model cannot be written as ONNX: {cause.partition(chr(10))[0]}"
    operator = found[1].replace("::", ".")
    return (
        f"export: the operator '{operator}'{_module_of(operator, program)} has no ONNX form; "
        "replace it in the model by operators that have one"
    )


def _default_opset(proto: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that the model imports."""
    return int(max(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")))


def _module_of(operator: str, program: ExportedProgram) -> str:
    """The path of the module whose forward calls the operator, as in `model.named_modules()`."""
    for node in program.graph.nodes:
        if str(node.target).removesuffix(".default") in (operator, operator.replace("._", ".")):
            paths = [path for path, _ in node.meta.get("nn_module_stack", {}).values()]
            path = paths[-1].removeprefix("model").removeprefix(".") if paths else ""
            return f" in module '{path}'" if path else ""
    return ""


def _name_weights(graph: onnx.GraphProto) -> None:
    """Give initializers the names that they have in the model's state_dict: tracing put 'model.' before them."""
    taken = {value.name for value in (*graph.input, *graph.output)}
    taken |= {name for node in graph.node for name in node.output}
    names = {tensor.name: tensor.name.removeprefix("model.") for tensor in graph.initializer}
    names = {old: new for old, new in names.items() if new != old and new not in taken and new not in names}
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
