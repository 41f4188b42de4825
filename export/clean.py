"""An ONNX model made fit to ship: nothing of the building machine in it, checked, finite, written whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from export.errors import QualityError, UnsupportedError
from export.files import write_whole
from export.model import OnnxModel

LARGEST_BYTES = 2**31 - 1
"""A protobuf message holds less than 2 GiB; https://protobuf.dev/programming-guides/proto-limits/."""


def write_clean(proto: onnx.ModelProto, path: Path) -> OnnxModel:
    """Strip, check and write an ONNX model; the same model gives the same bytes. `proto` is changed in place.

    Raises:
        QualityError: if an initializer holds NaN or Inf.
        UnsupportedError: if the ONNX checker refuses the model or it exceeds 2 GiB.
        EnvironmentFailure: if the disk is full.
    """
    strip(proto)
    refuse_not_finite(proto)
    size_bytes = proto.ByteSize()
    if size_bytes > LARGEST_BYTES:
        raise UnsupportedError(
            f"{path.name}: the ONNX model has {size_bytes} bytes; one file holds at most {LARGEST_BYTES}. "
            "Use a smaller model"
        )
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise UnsupportedError(f"{path.name}: the ONNX checker refuses the model: {_first_line(error)}") from error
    write_whole(path, proto.SerializeToString(deterministic=True))
    return OnnxModel.read(path)


def strip(proto: onnx.ModelProto) -> None:
    """Remove value_info, doc strings and metadata, in subgraphs and functions too; names and weights stay.

    The exporter's value_info breaks ONNX Runtime's quantizer, and its metadata holds stack traces with file paths.
    """
    _clear(proto)
    for function in proto.functions:
        _clear(function)
        function.ClearField("value_info")
        _strip_nodes(function.node)
    for graph in _graphs(proto):
        _clear(graph)
        graph.ClearField("value_info")
        for value in (*graph.input, *graph.output, *graph.initializer):
            _clear(value)
        _strip_nodes(graph.node)


def refuse_not_finite(proto: onnx.ModelProto) -> None:
    """Raise QualityError for the first initializer that holds NaN or Inf."""
    for graph in _graphs(proto):
        for tensor in graph.initializer:
            if count := count_not_finite(numpy_helper.to_array(tensor)):
                raise QualityError(
                    f"ONNX initializer '{tensor.name}': {count} of {int(np.prod(tensor.dims))} values are NaN or Inf; "
                    "weights must be finite. Check the checkpoint and the training that made it"
                )


def count_not_finite(values: np.ndarray) -> int:
    """How many values are NaN or Inf.

    An attention mask is let through: -Inf beside at most one other value.
    """
    if values.dtype.kind in "iub?" or values.size == 0:
        return 0
    values = values.astype(np.float32) if values.dtype.kind != "f" else values
    bad = ~np.isfinite(values)
    is_mask = bool(bad.any()) and bool(np.all(np.isneginf(values[bad]))) and np.unique(values[~bad]).size <= 1
    return 0 if is_mask else int(bad.sum())


def _graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The main graph and every graph inside a node (If, Loop, Scan), at any depth."""
    waiting = [proto.graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting.extend([attribute.g] if attribute.HasField("g") else attribute.graphs)


def _strip_nodes(nodes: Iterator[onnx.NodeProto]) -> None:
    for node in nodes:
        _clear(node)
        for attribute in node.attribute:
            attribute.ClearField("doc_string")


def _clear(message: onnx.ModelProto | onnx.GraphProto | onnx.NodeProto | onnx.FunctionProto) -> None:
    message.ClearField("doc_string")
    message.ClearField("metadata_props")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
