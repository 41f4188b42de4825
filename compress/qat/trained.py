"""Which constants of a Q/DQ graph are trained, where their training starts, and how they are put back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from compress.qat.fake_quantize import Grid

if TYPE_CHECKING:
    import onnx

_TRAINED: dict[str, tuple[int, ...]] = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (0, 1, 2),
    "MatMul": (0, 1),
    "LayerNormalization": (1, 2),
    "BatchNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
}
"""Operator -> the inputs that are weights or biases. Embedding tables, masks and scalings keep their values."""

_INTEGERS = {2: (0, 255), 3: (-128, 127), 4: (0, 65535), 5: (-32768, 32767), 6: (-(2**31), 2**31 - 1)} | {
    21: (0, 15),
    22: (-8, 7),
    25: (0, 3),
    26: (-2, 1),
}
"""onnx.TensorProto.DataType -> smallest and largest integer."""

_INT32 = 6
"""Biases: nothing clips them."""

_HALF = 0.49
"""How far from its integer a weight may start, in steps: just inside of what rounds to it."""


@dataclass(frozen=True)
class Trained:
    """A weight or bias.

    Args:
        constant: name of the initializer that holds it, as integers or as floats.
        start: its float value when training starts.
        grid: what integers it may take; None where the graph holds it as floats.
        scale, zero_point: names of the initializers that it is quantized with; no zero point is 0.
    """

    constant: str
    start: np.ndarray
    grid: Grid | None = None
    scale: str = ""
    zero_point: str = ""


def integers_of(data_type: int) -> tuple[int, int] | None:
    """Smallest and largest integer of an ONNX data type; None if it is none that tensors are quantized to."""
    return _INTEGERS.get(data_type)


def trained_tensors(graph: onnx.GraphProto, float_graph: onnx.GraphProto) -> list[Trained]:
    """The weights and biases of a Q/DQ graph, each once.

    A quantized weight starts from the float graph's, moved no further than into what rounds to its integer: so the
    untrained network is the quantized one, bit by bit, and the weight knows which way it was rounded. Where the quantizer
    changed the weight (smoothing, equalization), rounded it on purpose (AdaRound), or the float graph has none like it, it
    starts at the integer itself: ResNet-20's AdaRound with 4 bits, started at the floats, lost what it had gained in 50
    steps (divergence from the original 0.0031 -> 0.0127, from the integers 0.0034).
    """
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    floats = _by_shape(float_graph)
    found: dict[str, Trained] = {}
    for node, position in _slots(graph, made_by):
        name = node.input[position]
        maker = made_by.get(name)
        if name not in constants and maker is not None and maker.op_type == "DequantizeLinear":
            name = maker.input[0]
        if name not in constants or name in found:
            continue
        if name != node.input[position] and maker is not None:
            found[name] = _quantized(maker, constants, floats)
        elif _is_finite_float(constants[name]):
            found[name] = Trained(name, np.asarray(numpy_helper.to_array(constants[name])))
    return list(found.values())


def put_back(graph: onnx.GraphProto, stored: Mapping[str, np.ndarray]) -> None:
    """Replace the values of initializers by name; types and shapes stay."""
    from onnx import numpy_helper

    for tensor in graph.initializer:
        if tensor.name in stored:
            before = numpy_helper.to_array(tensor)
            value = np.asarray(stored[tensor.name]).reshape(before.shape).astype(before.dtype)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))


def _is_finite_float(tensor: onnx.TensorProto) -> bool:
    """Whether it can be learnt: a mask of -Inf cannot."""
    from onnx import numpy_helper

    return tensor.data_type == 1 and bool(np.isfinite(numpy_helper.to_array(tensor)).all())


def _slots(graph: onnx.GraphProto, made_by: Mapping[str, onnx.NodeProto]) -> Iterator[tuple[onnx.NodeProto, int]]:
    """Each input of a node that is a weight or a bias: (node, position); a bias may be added to a product."""
    for node in graph.node:
        for position in _TRAINED.get(node.op_type, ()):
            if position < len(node.input) and node.input[position]:
                yield node, position
        if node.op_type == "Add":
            for position, other in ((0, node.input[1]), (1, node.input[0])):
                if _operator_behind(other, made_by) in ("MatMul", "Einsum"):
                    yield node, position


def _operator_behind(name: str, made_by: Mapping[str, onnx.NodeProto]) -> str:
    """What made a value, quantization aside; "" for an input or a constant."""
    while (maker := made_by.get(name)) is not None and maker.op_type in ("QuantizeLinear", "DequantizeLinear"):
        name = maker.input[0]
    return "" if maker is None else maker.op_type


def _quantized(
    dequantize: onnx.NodeProto,
    constants: Mapping[str, onnx.TensorProto],
    floats: Mapping[tuple[int, ...], Sequence[np.ndarray]],
) -> Trained:
    from onnx import numpy_helper

    constant, scale, zero_point = (*dequantize.input, "")[:3]
    integers = np.asarray(numpy_helper.to_array(constants[constant])).astype(np.int64)
    scales = torch.from_numpy(numpy_helper.to_array(constants[scale]).astype(np.float32))
    zeros = numpy_helper.to_array(constants[zero_point]).astype(np.int64) if zero_point else np.zeros(1, np.int64)
    grid = _grid(dequantize, integers, bool(zeros.any()), constants[constant].data_type)
    spread_scale = grid.spread(scales, torch.Size(integers.shape)).numpy()
    spread_zero = grid.spread(torch.from_numpy(zeros), torch.Size(integers.shape)).numpy()
    start = _start(integers - spread_zero, spread_scale, spread_zero, grid, floats.get(integers.shape, ()))
    return Trained(constant, start, grid, scale, zero_point)


def _grid(dequantize: onnx.NodeProto, integers: np.ndarray, shifted: bool, data_type: int) -> Grid:
    """The range that the quantizer filled: a scheme of 7 or 4 bits in an int8 tensor keeps to these.

    A quantizer's scale takes the largest weight to the end of its range, so that the tensor's extremes tell it. A range
    without zero point is as wide on both sides, but where only -2^n is reached: then it is a whole number of bits.
    """
    from onnx import helper

    attributes = {each.name: helper.get_attribute_value(each) for each in dequantize.attribute}
    lowest, highest = _INTEGERS[data_type]
    if data_type != _INT32:
        least, most = int(integers.min(initial=0)), int(integers.max(initial=0))
        if not shifted:
            whole_bits = -least > most and (-least).bit_count() == 1
            reached = max(-least, most)
            least, most = -reached, reached - 1 if whole_bits else reached
        lowest, highest = max(lowest, least), min(highest, most)
    return Grid(lowest, highest, attributes.get("axis", 1), attributes.get("block_size", 0))


def _start(
    steps: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, grid: Grid, floats: Sequence[np.ndarray]
) -> np.ndarray:
    """The float weight that became these steps, or the steps' own values where none of `floats` did."""
    fit = steps.astype(np.float64)
    for candidate in floats:
        offsets = np.clip(candidate / scale, grid.lowest - zero_point, grid.highest - zero_point) - steps
        if np.abs(offsets).max(initial=0) <= 0.5 + 1e-3:
            fit = steps + np.clip(offsets, -_HALF, _HALF)
            break
    return np.asarray(fit * scale, np.float32)


def _by_shape(graph: onnx.GraphProto) -> dict[tuple[int, ...], list[np.ndarray]]:
    from onnx import numpy_helper

    found: dict[tuple[int, ...], list[np.ndarray]] = {}
    for tensor in graph.initializer:
        if tensor.data_type == 1 and len(tensor.dims) > 1:
            found.setdefault(tuple(tensor.dims), []).append(numpy_helper.to_array(tensor))
    return found
