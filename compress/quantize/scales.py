"""The scales of a quantized ONNX model: each finite and above 0, or nothing that they quantize means anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from export.errors import QualityError

if TYPE_CHECKING:
    import onnx

# Operator -> for each scale input its position, and that of the tensor it belongs to; None: the operator's output.
_SCALES: dict[str, dict[int, int | None]] = {
    "QuantizeLinear": {1: 0},
    "DequantizeLinear": {1: 0},
    "DynamicQuantizeMatMul": {2: 1},
    "MatMulIntegerToFloat": {2: 0, 3: 1},
    "QLinearConv": {1: 0, 4: 3, 6: None},
    "QLinearMatMul": {1: 0, 4: 3, 6: None},
    "QLinearAdd": {1: 0, 4: 3, 6: None},
    "QLinearMul": {1: 0, 4: 3, 6: None},
    "QGemm": {1: 0, 4: 3, 7: None},
    "QLinearAveragePool": {1: 0, 3: None},
    "QLinearGlobalAveragePool": {1: 0, 3: None},
    "QLinearLeakyRelu": {1: 0, 3: None},
    "QLinearReduceMean": {1: 0, 3: None},
    "QLinearSigmoid": {1: 0, 3: None},
    "QLinearSoftmax": {1: 0, 3: None},
}


def refuse_broken_scales(graph: onnx.GraphProto) -> None:
    """Check every scale that the graph holds as a constant.

    Raises:
        QualityError: if one holds NaN, Inf, 0 or less; names scale, tensor, node and count.
    """
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node, scale, quantized in _scales(graph):
        if scale not in constants:
            continue
        values = np.asarray(numpy_helper.to_array(constants[scale])).astype(np.float64)
        what = f"quantize: scale '{scale}' of tensor '{quantized}' ({node.op_type} '{node.name}')"
        if infinite := int(np.sum(~np.isfinite(values))):
            raise QualityError(
                f"{what} holds {infinite} NaN or Inf values of {values.size}; only finite ones are allowed: "
                "check the checkpoint, the training and the calibration data"
            )
        if too_small := int(np.sum(values <= 0)):
            raise QualityError(
                f"{what} holds {too_small} values of {values.size} that are 0 or less; only those above 0 are allowed, for a "
                "scale of 0 makes everything it quantizes 0: check the checkpoint and the calibration data"
            )


def _scales(graph: onnx.GraphProto) -> Iterator[tuple[onnx.NodeProto, str, str]]:
    """Each use of a scale: the node, the scale's name, the name of what it scales."""
    at_run_time = {node.output[1] for node in graph.node if node.op_type == "DynamicQuantizeLinear"}
    for node in graph.node:
        if node.op_type == "QLinearConcat":  # output scale and zero point, then (tensor, scale, zero point) each
            yield node, node.input[0], node.output[0]
            for position in range(2, len(node.input), 3):
                yield node, node.input[position + 1], node.input[position]
        elif node.op_type == "Mul" and at_run_time & set(node.input):  # the activation's scale times the weight's
            for name in node.input:
                yield node, name, node.output[0]
        for position, scaled in _SCALES.get(node.op_type, {}).items():
            if position < len(node.input):
                yield node, node.input[position], node.output[0] if scaled is None else node.input[scaled]
