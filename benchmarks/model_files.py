"""Any model file as an engine, as it is: nothing is converted, quantized or written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from export.errors import InputError, UnsupportedError
from export.model import TensorSpec
from targets import Engine, target_class
from targets.base import Interface, axis_name
from targets.isa import architecture

if TYPE_CHECKING:
    import onnx

RUNTIMES = {"onnxruntime": "onnxruntime_mobile", "openvino": "openvino"}
"""What an .onnx file may run on, and the target that does it."""
KINDS = ".onnx, .ort (ONNX Runtime), .xml with its .bin beside it (OpenVINO)"


def engine_of(path: Path, on: str = "onnxruntime") -> Engine:
    """The engine in a model file.

    Args:
        on: the runtime of an .onnx file, one of RUNTIMES; .ort and .xml files have theirs.

    Raises:
        InputError: if the file is missing, damaged, of another kind, or without what belongs to it.
        UnsupportedError: if its runtime is not here.
    """
    suffix = path.suffix.lower()
    if suffix not in (".onnx", ".ort", ".xml"):
        raise InputError(f"{path}: found a file of kind '{suffix}', allowed: {KINDS}")
    if on not in RUNTIMES:
        raise InputError(f"--on: found '{on}', allowed: {', '.join(RUNTIMES)}")
    if not path.is_file():
        raise InputError(f"{path}: no such file; give model files: {KINDS}")
    target = {".ort": "onnxruntime_mobile", ".xml": "openvino"}.get(suffix, RUNTIMES[on])
    if reason := target_class(target)().cannot_run():
        raise UnsupportedError(f"{path}: {target} cannot run here: {reason}")
    (inputs, outputs), files = {".onnx": _read_onnx, ".ort": _read_ort, ".xml": _read_ir}[suffix](path)
    settings = {"precision_hint": "f32"} if target == "openvino" else {"platform": architecture()}
    return Engine(target, path.name, path, files, inputs, outputs, build_s=0.0, settings=settings)


def _read_ort(path: Path) -> tuple[Interface, tuple[Path, ...]]:
    from targets.onnxruntime_mobile import interface

    return interface(path), (path,)


def _read_ir(path: Path) -> tuple[Interface, tuple[Path, ...]]:
    from targets.openvino.interface import interface

    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise InputError(f"{path}: its weights, {weights.name}, are not beside it; copy both files")
    return interface(path), (path, weights)


def _read_onnx(path: Path) -> tuple[Interface, tuple[Path, ...]]:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(path, load_external_data=False).graph
    except DecodeError as error:
        raise InputError(f"{path}: not an ONNX model: {error}") from error
    if not graph.output:
        raise InputError(f"{path}: not an ONNX model: it has no outputs")
    weights = {tensor.name for tensor in graph.initializer}
    inputs = tuple(_onnx_spec(value, path) for value in graph.input if value.name not in weights)
    return (inputs, tuple(_onnx_spec(value, path) for value in graph.output)), (path, *_external(graph, path))


def _external(graph: onnx.GraphProto, path: Path) -> Iterable[Path]:
    """The files beside a model that hold its large weights."""
    entries = [entry for tensor in graph.initializer for entry in tensor.external_data if entry.key == "location"]
    for location in dict.fromkeys(entry.value for entry in entries):
        place = PurePosixPath(location)
        if place.is_absolute() or ".." in place.parts or not (path.parent / place).is_file():
            raise InputError(f"{path}: its weights are in '{location}', which is not beside it; copy all its files")
        yield path.parent / place


def _onnx_spec(value: onnx.ValueInfoProto, path: Path) -> TensorSpec:
    import onnx

    tensor = value.type.tensor_type
    if not tensor.elem_type:
        raise UnsupportedError(f"{path}: '{value.name}' is not a tensor; only tensor inputs and outputs can be timed")
    axes = tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or axis_name(value.name, position)
        for position, dim in enumerate(tensor.shape.dim)
    )
    return TensorSpec(value.name, str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)), axes)
