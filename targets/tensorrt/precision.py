"""FP32 ONNX models in FP16 or BF16: in a strongly typed network the model itself says the precision.

Inputs and outputs stay as they were, with a Cast behind and before them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

_LARGEST = np.float32(float.fromhex("0x1.fep127"))
"""BF16's largest finite value."""


def in_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """FP16 inside; values beyond its range become its largest (65504)."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    return convert_float_to_float16(model, keep_io_types=True)  # type: ignore[no-any-return]


def in_bf16(model: onnx.ModelProto) -> onnx.ModelProto:
    """BF16 inside: what `in_fp16` puts into FP16, with weights rounded from their FP32 values. Its range is FP32's.

    ONNX allows BF16 in Conv from opset 22 on, TensorRT's parser in every opset.
    """
    from onnx import TensorProto

    _constants_to_initializers(model.graph)
    weights = {tensor.name: tensor for tensor in _copies(model.graph)}
    half = in_fp16(model)
    for tensor in half.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            tensor.CopyFrom(_rounded(weights[tensor.name]))
    for attribute in (each for node in half.graph.node for each in node.attribute):
        if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT16:
            attribute.i = TensorProto.BFLOAT16
        if attribute.t.data_type == TensorProto.FLOAT16:
            attribute.t.CopyFrom(_rounded(attribute.t))
    for value in (*half.graph.input, *half.graph.output, *half.graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.BFLOAT16
    return half


def _rounded(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """The tensor in BF16, to the nearest, ties to even.

    Values between BF16's largest and FP32's become the former, not infinite: a mask of FP32's lowest times 0 must stay 0.
    """
    from onnx import TensorProto, numpy_helper

    values = numpy_helper.to_array(tensor).astype(np.float32)
    finite = np.where(np.isfinite(values), np.clip(values, -_LARGEST, _LARGEST), values).astype(np.float32)
    bits = finite.view(np.uint32)
    nearest = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")
    return TensorProto(name=tensor.name, dims=tensor.dims, data_type=TensorProto.BFLOAT16, raw_data=nearest.tobytes())


def _copies(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    for tensor in graph.initializer:
        copied = type(tensor)()
        copied.CopyFrom(tensor)
        yield copied


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    """Constant nodes of a tensor become initializers, whose FP32 values are then at hand by name."""
    for node in [node for node in graph.node if node.op_type == "Constant" and node.attribute[0].name == "value"]:
        tensor = graph.initializer.add()
        tensor.CopyFrom(node.attribute[0].t)
        tensor.name = node.output[0]
        graph.node.remove(node)
