"""ONNX operators as torch functions: what networks exported by torch's dynamo exporter are made of.

Each function takes the node's attributes and its inputs, an input that is left out as None. https://onnx.ai/onnx/operators/
has their definitions; none here differs from it. Quantize/DequantizeLinear are the network's own (compress/qat/network.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from compress.qat import shaping
from compress.qat.shaping import Attributes
from export.errors import UnsupportedError

if TYPE_CHECKING:
    import onnx

Operator = Callable[..., "Tensor | Sequence[Tensor]"]

_TYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    16: torch.bfloat16,
}
"""onnx.TensorProto.DataType -> torch."""


def operator_of(node: onnx.NodeProto) -> Operator:
    """The function of a node, its attributes bound.

    Raises:
        UnsupportedError: if there is none; names operator and node.
    """
    from onnx import helper

    function = OPERATORS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if function is None:
        name = f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
        raise UnsupportedError(
            f"qat: operator '{name}' of node '{node.name}' cannot be trained through; known: {', '.join(sorted(OPERATORS))}. "
            "Leave qat out of the recipe, or replace the operator in the model"
        )
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise UnsupportedError(
            f"qat: node '{node.name}' ({node.op_type}) pads by auto_pad {attributes['auto_pad'].decode()}; only explicit "
            "pads are supported: export the model with these"
        )
    if node.op_type != "Split" and sum(map(bool, node.output)) > 1:
        raise UnsupportedError(
            f"qat: node '{node.name}' ({node.op_type}) has outputs {', '.join(node.output)}; only the first can be trained "
            "through: leave the others out of the model"
        )
    if node.op_type == "Split":
        attributes.setdefault("num_outputs", len(node.output))
    return lambda *inputs: function(attributes, *inputs)


def _conv(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    convolve: Any = (functional.conv1d, functional.conv2d, functional.conv3d)[weight.ndim - 3]
    spatial = weight.ndim - 2
    x, padding = _padded(x, attributes, spatial, 0.0)
    strides, dilations = attributes.get("strides", [1] * spatial), attributes.get("dilations", [1] * spatial)
    result: Tensor = convolve(x, weight, bias, strides, padding, dilations, attributes.get("group", 1))
    return result


def _conv_transpose(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    convolve: Any = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)[
        weight.ndim - 3
    ]
    spatial = weight.ndim - 2
    strides, dilations = attributes.get("strides", [1] * spatial), attributes.get("dilations", [1] * spatial)
    extra, groups = attributes.get("output_padding", [0] * spatial), attributes.get("group", 1)
    result: Tensor = convolve(x, weight, bias, strides, 0, extra, groups, dilations)
    pads = attributes.get("pads", [0] * 2 * spatial)
    for axis, (before, after) in enumerate(zip(pads[:spatial], pads[spatial:], strict=True), start=2):
        result = result.narrow(axis, before, result.shape[axis] - before - after)
    return result


def _padded(x: Tensor, attributes: Attributes, spatial: int, value: float) -> tuple[Tensor, list[int]]:
    """What is the same on both sides torch pads itself; else `x` comes padded."""
    pads = attributes.get("pads", [0] * 2 * spatial)
    before, after = list(pads[:spatial]), list(pads[spatial:])
    if before == after:
        return x, before
    both = [side for pair in zip(reversed(before), reversed(after), strict=True) for side in pair]
    return functional.pad(x, both, value=value), [0] * spatial


def _max_pool(attributes: Attributes, x: Tensor) -> Tensor:
    kernel, spatial = attributes["kernel_shape"], x.ndim - 2
    pool: Any = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[spatial - 1]
    x, padding = _padded(x, attributes, spatial, -torch.inf)
    strides, dilations = attributes.get("strides", [1] * spatial), attributes.get("dilations", [1] * spatial)
    result: Tensor = pool(x, kernel, strides, padding, dilations, bool(attributes.get("ceil_mode", 0)))
    return result


def _average_pool(attributes: Attributes, x: Tensor) -> Tensor:
    kernel, spatial = attributes["kernel_shape"], x.ndim - 2
    pool: Any = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[spatial - 1]
    counted = bool(attributes.get("count_include_pad", 0))
    padded, padding = _padded(x, attributes, spatial, 0.0)
    if padded is not x and not counted:
        raise UnsupportedError(
            "qat: an AveragePool pads its sides differently and does not count what it pads; pad the same on both sides"
        )
    strides, rounded_up = attributes.get("strides", [1] * spatial), bool(attributes.get("ceil_mode", 0))
    result: Tensor = pool(padded, kernel, strides, padding, rounded_up, counted)
    return result


def _gemm(attributes: Attributes, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a = a.T if attributes.get("transA", 0) else a
    b = b.T if attributes.get("transB", 0) else b
    product = a @ b * attributes["alpha"] if attributes.get("alpha", 1.0) != 1.0 else a @ b
    return product if c is None else product + c * attributes.get("beta", 1.0)


def _layer_norm(attributes: Attributes, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    shape = x.shape[attributes.get("axis", -1) :]
    bias = None if bias is None else bias.expand(shape)
    return functional.layer_norm(x, shape, scale.expand(shape), bias, attributes.get("epsilon", 1e-5))


def _batch_norm(attributes: Attributes, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    return functional.batch_norm(x, mean, var, scale, bias, eps=attributes.get("epsilon", 1e-5))


def _reduce(of: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    """Axes are an input since opset 18 (of ReduceSum: 13), an attribute before; none are all of them."""

    def reduce(attributes: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
        given = attributes.get("axes", []) if axes is None else axes.tolist()
        if not given and attributes.get("noop_with_empty_axes", 0):
            return x
        return of(x, given or list(range(x.ndim)), bool(attributes.get("keepdims", 1)))

    return reduce


def _divide(attributes: Attributes, a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _clip(attributes: Attributes, x: Tensor, lowest: Tensor | None = None, highest: Tensor | None = None) -> Tensor:
    return x if lowest is None and highest is None else torch.clamp(x, lowest, highest)


def _gelu(attributes: Attributes, x: Tensor) -> Tensor:
    return functional.gelu(x, approximate=attributes.get("approximate", b"none").decode())


def _hard_sigmoid(attributes: Attributes, x: Tensor) -> Tensor:
    return torch.clamp(attributes.get("alpha", 0.2) * x + attributes.get("beta", 0.5), 0, 1)


def _prelu(attributes: Attributes, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


def _plain(function: Callable[..., Tensor]) -> Operator:
    """An operator without attributes."""
    return lambda attributes, *inputs: function(*inputs)


def _variadic(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    def fold(attributes: Attributes, first: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            first = function(first, other)
        return first

    return fold


OPERATORS: dict[str, Operator] = {
    "Abs": _plain(torch.abs),
    "Add": _plain(torch.add),
    "And": _plain(torch.logical_and),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": lambda attributes, x: x.to(_TYPES[attributes["to"]]),
    "Clip": _clip,
    "Concat": lambda attributes, *parts: torch.cat(parts, attributes["axis"]),
    "ConstantOfShape": shaping.constant_of_shape,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Cos": _plain(torch.cos),
    "DepthToSpace": shaping.depth_to_space,
    "Div": _divide,
    "Dropout": lambda attributes, x, *ratio: x,
    "Einsum": lambda attributes, *inputs: torch.einsum(attributes["equation"].decode(), *inputs),
    "Elu": lambda attributes, x: functional.elu(x, attributes.get("alpha", 1.0)),
    "Equal": _plain(torch.eq),
    "Erf": _plain(torch.erf),
    "Exp": _plain(torch.exp),
    "Expand": shaping.expand,
    "Flatten": shaping.flatten,
    "Floor": _plain(torch.floor),
    "Gather": shaping.gather,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda attributes, x: x.mean(tuple(range(2, x.ndim)), keepdim=True),
    "GlobalMaxPool": lambda attributes, x: x.amax(tuple(range(2, x.ndim)), keepdim=True),
    "Greater": _plain(torch.gt),
    "GreaterOrEqual": _plain(torch.ge),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _plain(functional.hardswish),
    "Identity": _plain(lambda x: x),
    "InstanceNormalization": lambda attributes, x, scale, bias: functional.instance_norm(
        x, weight=scale, bias=bias, eps=attributes.get("epsilon", 1e-5)
    ),
    "IsNaN": _plain(torch.isnan),
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda attributes, x: functional.leaky_relu(x, attributes.get("alpha", 0.01)),
    "Less": _plain(torch.lt),
    "LessOrEqual": _plain(torch.le),
    "Log": _plain(torch.log),
    "LogSoftmax": lambda attributes, x: torch.log_softmax(x, attributes.get("axis", -1)),
    "MatMul": _plain(torch.matmul),
    "Max": _variadic(torch.maximum),
    "MaxPool": _max_pool,
    "Min": _variadic(torch.minimum),
    "Mul": _plain(torch.mul),
    "Neg": _plain(torch.neg),
    "Not": _plain(torch.logical_not),
    "Or": _plain(torch.logical_or),
    "PRelu": _prelu,
    "Pad": shaping.pad,
    "Pow": _plain(torch.pow),
    "Range": _plain(lambda start, stop, step: torch.arange(start.item(), stop.item(), step.item(), dtype=start.dtype)),
    "Reciprocal": _plain(torch.reciprocal),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceMin": _reduce(torch.amin),
    "ReduceSum": _reduce(torch.sum),
    "Relu": _plain(torch.relu),
    "Reshape": shaping.reshape,
    "Shape": shaping.shape,
    "Sigmoid": _plain(torch.sigmoid),
    "Sin": _plain(torch.sin),
    "Slice": shaping.slice_,
    "Softmax": lambda attributes, x: torch.softmax(x, attributes.get("axis", -1)),
    "Softplus": _plain(functional.softplus),
    "Split": shaping.split,
    "Sqrt": _plain(torch.sqrt),
    "Squeeze": shaping.squeeze,
    "Sub": _plain(torch.sub),
    "Tanh": _plain(torch.tanh),
    "Tile": _plain(lambda x, repeats: x.repeat(repeats.tolist())),
    "Transpose": shaping.transpose,
    "Unsqueeze": shaping.unsqueeze,
    "Where": _plain(torch.where),
}
