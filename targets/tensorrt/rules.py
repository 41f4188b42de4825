"""What TensorRT asks of Q/DQ nodes, checked before its parser sees them, so that the refusal names the node.

Source: NVIDIA, "Working with Quantized Types": signed and symmetric, scales of a tensor for activations, of an output channel for
weights. The parser itself reads unsigned zero points as signed and says nothing of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from export.errors import UnsupportedError

if TYPE_CHECKING:
    import onnx

_NODES = ("QuantizeLinear", "DequantizeLinear")
_MEND = "quantize with this target's own scheme 'int8'"


@dataclass(frozen=True)
class _Graph:
    constants: dict[str, onnx.TensorProto]
    makers: dict[str, onnx.NodeProto]
    readers: dict[str, list[onnx.NodeProto]]


def check_rules(model: onnx.ModelProto) -> None:
    """Look at every QuantizeLinear and DequantizeLinear.

    Raises:
        UnsupportedError: for the first that TensorRT would refuse or misread: one that is unsigned, has a zero point other
            than 0, dequantizes a bias of 32 bits, or has a scale for each channel of anything but the outputs of a weight.
    """
    graph = _read(model.graph)
    for node in model.graph.node:
        if node.op_type in _NODES:
            _check_type(node, graph)
            _check_scale(node, graph)


def _check_type(node: onnx.NodeProto, graph: _Graph) -> None:
    from onnx import TensorProto, numpy_helper

    zero_point = graph.constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    quantized = graph.constants.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
    if quantized is not None and quantized.data_type == TensorProto.INT32:
        raise _refused(node, f"'{node.input[0]}' is a bias of 32-bit integers, TensorRT takes biases in float; {_MEND}")
    if node.op_type == "QuantizeLinear" and zero_point is None and not _attribute(node, "output_dtype", 0):
        raise _refused(node, f"it has no constant zero point, so that its type is uint8; TensorRT takes int8; {_MEND}")
    for tensor in (zero_point, quantized):
        if tensor is not None and tensor.data_type == TensorProto.UINT8:
            raise _refused(node, f"'{tensor.name}' is uint8, TensorRT reads signed values alone; {_MEND}")
    if zero_point is not None and np.any(found := numpy_helper.to_array(zero_point).astype(np.float32)):
        shown = found.flat[int(np.flatnonzero(found)[0])]
        raise _refused(node, f"its zero point is {shown:g}, TensorRT takes symmetric ranges (0) alone; {_MEND}")


def _check_scale(node: onnx.NodeProto, graph: _Graph) -> None:
    scale = graph.constants.get(node.input[1])
    if scale is None:
        raise _refused(node, f"its scale '{node.input[1]}' is computed, TensorRT takes constants alone; {_MEND}")
    if _attribute(node, "block_size", 0) or int(np.prod(scale.dims)) == 1:
        return
    rank = _rank_of_weight(node, graph)
    if rank is None:
        raise _refused(
            node, f"an activation has {int(np.prod(scale.dims))} scales, TensorRT takes one for a tensor; {_MEND}"
        )
    found = _attribute(node, "axis", 1) % rank
    for reader in _products(node.output[0], graph):
        wanted = _output_axis(reader, rank)
        if found != wanted:
            raise _refused(
                node,
                f"scales lie along axis {found} of the weight of {reader.op_type} '{reader.name}', "
                f"TensorRT takes them along its outputs (axis {wanted}); {_MEND}",
            )


def _rank_of_weight(node: onnx.NodeProto, graph: _Graph) -> int | None:
    """Axes of the constant that a Q or DQ comes from; None if it comes from none."""
    name = node.input[0]
    while name not in graph.constants:
        maker = graph.makers.get(name)
        if maker is None or maker.op_type not in _NODES:
            return None
        name = maker.input[0]
    return len(graph.constants[name].dims) or 1


def _products(name: str, graph: _Graph) -> Iterable[onnx.NodeProto]:
    """Who multiplies with a quantized weight."""
    for reader in graph.readers[name]:
        if reader.op_type in _NODES:
            yield from _products(reader.output[0], graph)
        elif reader.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            yield reader


def _output_axis(reader: onnx.NodeProto, rank: int) -> int:
    """Where the outputs lie in the weight of a product; MatMul and Gemm have it as second operand, (inputs, outputs)."""
    if reader.op_type in ("Conv", "ConvTranspose"):
        return 0 if reader.op_type == "Conv" else 1
    return 0 if reader.op_type == "Gemm" and _attribute(reader, "transB", 0) else rank - 1


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), default)


def _read(graph: onnx.GraphProto) -> _Graph:
    constants = {tensor.name: tensor for tensor in graph.initializer}
    makers: dict[str, onnx.NodeProto] = {}
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
        makers.update(dict.fromkeys(node.output, node))
        for name in node.input:
            readers[name].append(node)
    return _Graph(constants, makers, readers)


def _refused(node: onnx.NodeProto, reason: str) -> UnsupportedError:
    return UnsupportedError(f"{node.op_type} (node '{node.name}'): {reason}")
