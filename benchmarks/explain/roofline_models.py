"""The models that a roofline is measured with: large products in a row, and chains of operators that do nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import onnx

Kind = Literal["convolution", "matmul"]
CHAINS = (8, 72)
"""Operators of the short and of the long chain."""
CONV_CHANNELS, CONV_EXTENT, ROWS, WIDTH, DEEP = 64, 28, 128, 512, 4


def product(kind: Kind, precision: Literal["fp32", "int8"]) -> bytes:
    """DEEP products in a row; in INT8 with Q/DQ around each, written by hand.

    Channels fill any vector register, and weights and activations fit in a core's cache.
    """
    from onnx import helper

    convolution = kind == "convolution"
    shape = (1, CONV_CHANNELS, CONV_EXTENT, CONV_EXTENT) if convolution else (1, ROWS, WIDTH)
    weight_shape = (CONV_CHANNELS, CONV_CHANNELS, 3, 3) if convolution else (WIDTH, WIDTH)
    random = np.random.default_rng(0)
    constants: dict[str, np.ndarray] = {}
    nodes: list[onnx.NodeProto] = []
    value = "x"
    if precision == "int8":
        constants |= {"scale": np.array(0.02, np.float32), "zero": np.array(128, np.uint8)}
        constants |= {"wscale": np.array(1e-3, np.float32), "wzero": np.array(0, np.int8)}
        nodes, value = _requantized(value, 0)
    for layer in range(DEEP):
        weight = f"w{layer}"
        if precision == "int8":
            constants[weight] = random.integers(-60, 60, weight_shape).astype(np.int8)
            nodes.append(
                helper.make_node("DequantizeLinear", [weight, "wscale", "wzero"], [f"{weight}f"], f"dq{weight}")
            )
            weight = f"{weight}f"
        else:
            constants[weight] = random.normal(0, 0.04, weight_shape).astype(np.float32)
        last = layer == DEEP - 1
        made = "y" if last and precision == "fp32" else f"p{layer}"
        if convolution:
            nodes.append(helper.make_node("Conv", [value, weight], [made], f"product{layer}", pads=[1, 1, 1, 1]))
        else:
            nodes.append(helper.make_node("MatMul", [value, weight], [made], f"product{layer}"))
        value = made
        if precision == "int8":
            more, value = _requantized(made, layer + 1, "y" if last else None)
            nodes += more
    return _serialised(nodes, constants, shape)


def chain(length: int) -> bytes:
    """Softmax after softmax over eight numbers: no runtime fuses them or leaves one out."""
    from onnx import helper

    names = ["x", *(f"s{index}" for index in range(1, length)), "y"]
    nodes = [
        helper.make_node("Softmax", [names[index]], [names[index + 1]], f"softmax{index}", axis=-1)
        for index in range(length)
    ]
    return _serialised(nodes, {}, (1, 8))


def _requantized(value: str, index: int, name: str | None = None) -> tuple[list[onnx.NodeProto], str]:
    from onnx import helper

    quantized, back = f"q{index}", name or f"d{index}"
    return [
        helper.make_node("QuantizeLinear", [value, "scale", "zero"], [quantized], f"quantize{index}"),
        helper.make_node("DequantizeLinear", [quantized, "scale", "zero"], [back], f"dequantize{index}"),
    ], back


def _serialised(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], shape: tuple[int, ...]) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "roofline", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())
