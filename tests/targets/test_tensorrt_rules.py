"""TensorRT's rules for Q/DQ nodes: what breaks one is refused by node, what the toolkit itself inserts passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.quantize.model import quantize_model
from export.errors import UnsupportedError
from export.model import OnnxModel
from targets.base import Arrays
from targets.tensorrt import TensorRt
from targets.tensorrt.rules import check_rules
from tests.targets import networks

INT8 = next(scheme for scheme in TensorRt().schemes() if scheme.name == "int8")


def product(
    activation: dict[str, np.ndarray] | None = None, weight: dict[str, np.ndarray] | None = None, axis: int = 0
) -> onnx.ModelProto:
    """x -> Q -> DQ -> Conv with a DQ of its weight (8, 4, 3, 3); the arguments replace scale and zero."""
    constants = {
        "x_scale": np.float32(0.1),
        "x_zero": np.int8(0),
        "w": np.zeros((8, 4, 3, 3), np.int8),
        "w_scale": np.full(8, 0.1, np.float32),
        "w_zero": np.zeros(8, np.int8),
    }
    constants |= {f"x_{name}": value for name, value in (activation or {}).items()}
    constants |= {f"w_{name}" if name != "w" else "w": value for name, value in (weight or {}).items()}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["xq"], "quantize_x"),
        helper.make_node("DequantizeLinear", ["xq", "x_scale", "x_zero"], ["xd"], "dequantize_x"),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["wd"], "dequantize_w", axis=axis),
        helper.make_node("Conv", ["xd", "wd"], ["y"], "conv"),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None, 5, 5]) for name in ("x", "y"))
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    return helper.make_model(helper.make_graph(nodes, "product", [x], [y], initializers))


def test_the_form_that_tensorrt_takes_passes() -> None:
    check_rules(product())
    check_rules(product(weight={"scale": np.float32(0.1), "zero": np.int8(0)}))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            product(activation={"zero": np.uint8(0)}),
            r"QuantizeLinear \(node 'quantize_x'\): 'x_zero' is uint8, TensorRT reads signed values alone; quantize with",
        ),
        (
            product(activation={"zero": np.int8(-3)}),
            r"QuantizeLinear \(node 'quantize_x'\): its zero point is -3, TensorRT takes symmetric ranges \(0\) alone",
        ),
        (
            product(weight={"zero": np.array([0, 0, 5, 0, 0, 0, 0, 0], np.int8)}),
            r"DequantizeLinear \(node 'dequantize_w'\): its zero point is 5, TensorRT takes symmetric",
        ),
        (
            product(weight={"w": np.zeros((8, 4, 3, 3), np.int32), "zero": np.zeros(8, np.int32)}),
            r"DequantizeLinear \(node 'dequantize_w'\): 'w' is a bias of 32-bit integers, TensorRT takes biases in float",
        ),
        (
            product(activation={"scale": np.full(4, 0.1, np.float32), "zero": np.zeros(4, np.int8)}),
            r"QuantizeLinear \(node 'quantize_x'\): an activation has 4 scales, TensorRT takes one for a tensor",
        ),
        (
            product(weight={"scale": np.full(4, 0.1, np.float32), "zero": np.zeros(4, np.int8)}, axis=1),
            r"node 'dequantize_w'\): scales lie along axis 1 of the weight of Conv 'conv', TensorRT takes them along its "
            r"outputs \(axis 0\)",
        ),
    ],
)
def test_what_breaks_a_rule_is_refused_with_its_node(model: onnx.ModelProto, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        check_rules(model)


def test_a_quantization_without_a_zero_point_is_unsigned() -> None:
    """ONNX: output_dtype and zero point left out mean uint8."""
    model = product()
    del model.graph.node[0].input[2]
    with pytest.raises(
        UnsupportedError, match=r"'quantize_x'\): it has no constant zero point, so that its type is uint8"
    ):
        check_rules(model)


def test_a_computed_scale_is_refused() -> None:
    model = product()
    model.graph.node[0].input[1] = model.graph.node[1].input[1] = "x_range"
    with pytest.raises(UnsupportedError, match=r"its scale 'x_range' is computed, TensorRT takes constants alone"):
        check_rules(model)


@pytest.mark.parametrize(
    ("operator", "attributes", "outputs"), [("MatMul", {}, 1), ("Gemm", {}, 1), ("Gemm", {"transB": 1}, 0)]
)
def test_the_outputs_of_a_product_lie_where_its_operator_says(
    operator: str, attributes: dict[str, int], outputs: int
) -> None:
    for axis in (0, 1):
        model = product(weight={"w": np.zeros((8, 8), np.int8)}, axis=axis)
        model.graph.node[3].CopyFrom(helper.make_node(operator, ["xd", "wd"], ["y"], "product", **attributes))
        if axis == outputs:
            check_rules(model)
        else:
            with pytest.raises(UnsupportedError, match=rf"{operator} 'product'.*\(axis {outputs}\)"):
                check_rules(model)


@pytest.mark.parametrize(
    ("make", "inputs"), [(networks.convolutional, networks.images), (networks.attention, networks.sentences)]
)
def test_what_the_own_scheme_inserts_passes_and_an_unsigned_one_does_not(
    make: Callable[[Path], OnnxModel], inputs: Callable[[int], Arrays], tmp_path: Path
) -> None:
    model = make(tmp_path / "model.onnx")
    check_rules(quantize_model(model, [inputs(16)], INT8, tmp_path / "signed.onnx").proto())
    unsigned = replace(INT8, activations="uint8", symmetric_activations=False)
    with pytest.raises(UnsupportedError, match="is uint8, TensorRT reads signed"):
        check_rules(quantize_model(model, [inputs(16)], unsigned, tmp_path / "unsigned.onnx").proto())


def test_a_quantized_bias_of_onnx_runtimes_quantizer_is_refused(tmp_path: Path) -> None:
    biased = replace(INT8, quantize_bias=True)
    model = networks.convolutional(tmp_path / "model.onnx")
    with pytest.raises(UnsupportedError, match="is a bias of 32-bit integers"):
        check_rules(quantize_model(model, [networks.images(16)], biased, tmp_path / "biased.onnx").proto())
