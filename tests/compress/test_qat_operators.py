"""Every operator that training passes through, against ONNX Runtime on the same node."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from compress.qat.network import QuantizedNetwork
from compress.qat.operators import OPERATORS
from export.errors import UnsupportedError

RANDOM = np.random.default_rng(0)


def _floats(*shape: int) -> np.ndarray:
    return RANDOM.normal(0, 1, shape).astype(np.float32)


def _ints(*values: Any) -> np.ndarray:
    return np.array(values, np.int64)


IMAGE, FLAT, WORDS, POSITIVE = _floats(2, 4, 7, 6), _floats(3, 8), _floats(2, 5, 8), np.abs(_floats(3, 8)) + 0.1
FILTER, BIAS = _floats(6, 4, 3, 3), _floats(6)
TRUTH = FLAT > 0

# operator, inputs (None: left out), attributes
CASES: list[tuple[str, list[np.ndarray | None], dict[str, Any]]] = [
    *((name, [FLAT], {}) for name in ("Abs", "Cos", "Erf", "Exp", "Floor", "HardSwish", "Identity", "Neg", "Relu", "Sigmoid")),
    *((name, [FLAT], {}) for name in ("Sin", "Softplus", "Tanh", "Softmax", "LogSoftmax", "Transpose", "Elu", "LeakyRelu")),
    *((name, [POSITIVE], {}) for name in ("Log", "Reciprocal", "Sqrt", "IsNaN")),
    *((name, [FLAT, _floats(8)], {}) for name in ("Add", "Sub", "Mul", "Div", "Less", "Greater", "LessOrEqual")),
    *((name, [FLAT, FLAT], {}) for name in ("GreaterOrEqual", "Equal")),
    *((name, [TRUTH, ~TRUTH], {}) for name in ("And", "Or")),
    *((name, [FLAT, _floats(8), _floats(1)], {}) for name in ("Max", "Min")),
    *((name, [IMAGE], {"keepdims": 0}) for name in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum")),
    *((name, [IMAGE, _ints(2, 3)], {}) for name in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum")),
    *((name, [IMAGE], {}) for name in ("GlobalAveragePool", "GlobalMaxPool", "Flatten", "Shape")),
    ("ReduceMean", [IMAGE, _ints()], {"noop_with_empty_axes": 1}),
    ("Not", [TRUTH], {}),
    ("Pow", [POSITIVE, _floats(1)], {}),
    ("Div", [_ints(7, -7, 9), _ints(2)], {}),
    ("Clip", [FLAT, np.float32(-0.3), None], {}),
    ("Clip", [FLAT, None, np.float32(0.3)], {}),
    ("Cast", [FLAT], {"to": TensorProto.INT64}),
    ("Concat", [FLAT, FLAT], {"axis": 1}),
    ("ConstantOfShape", [_ints(2, 3)], {"value": numpy_helper.from_array(np.array([1.5], np.float32))}),
    ("Conv", [IMAGE, FILTER, BIAS], {"pads": [1, 1, 1, 1], "strides": [2, 1]}),
    ("Conv", [IMAGE, FILTER], {"pads": [0, 1, 2, 1], "dilations": [1, 2]}),
    ("Conv", [IMAGE, _floats(8, 2, 3, 3)], {"group": 2}),
    ("Conv", [WORDS, _floats(3, 5, 2)], {"pads": [1, 0]}),
    ("ConvTranspose", [IMAGE, _floats(4, 3, 3, 3), _floats(3)], {"strides": [2, 2], "pads": [1, 0, 1, 1], "output_padding": [1, 1]}),
    ("DepthToSpace", [IMAGE], {"blocksize": 2}),
    ("DepthToSpace", [IMAGE], {"blocksize": 2, "mode": "CRD"}),
    ("Einsum", [WORDS, FLAT], {"equation": "btc,nc->btn"}),
    ("Expand", [_floats(3, 1), _ints(2, 1, 4)], {}),
    ("Gather", [FLAT, _ints([0, -1], [2, 1])], {"axis": 1}),
    ("Gemm", [FLAT, _floats(4, 8), _floats(4)], {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    ("Gemm", [FLAT, _floats(3, 4)], {"transA": 1}),
    ("HardSigmoid", [FLAT], {"alpha": 0.3}),
    ("InstanceNormalization", [IMAGE, _floats(4), _floats(4)], {}),
    ("BatchNormalization", [IMAGE, _floats(4), _floats(4), _floats(4), np.abs(_floats(4))], {"epsilon": 1e-3}),
    ("LayerNormalization", [WORDS, _floats(8), _floats(8)], {}),
    ("LayerNormalization", [WORDS, _floats(5, 8)], {"axis": 1}),
    ("MatMul", [WORDS, _floats(8, 3)], {}),
    ("MaxPool", [IMAGE], {"kernel_shape": [3, 3], "pads": [0, 1, 1, 1], "strides": [2, 2]}),
    ("MaxPool", [IMAGE], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    ("AveragePool", [IMAGE], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ("AveragePool", [IMAGE], {"kernel_shape": [3, 3], "pads": [1, 0, 1, 1], "count_include_pad": 1}),
    ("PRelu", [IMAGE, _floats(4, 1, 1)], {}),
    ("Pad", [IMAGE, _ints(0, 1, 0, 2, 0, 1, 1, 0), np.float32(3)], {}),
    ("Pad", [IMAGE, _ints(1, 2), None, _ints(-1)], {}),
    ("Pad", [IMAGE, _ints(0, 0, 1, 2, 0, 0, 2, 1)], {"mode": "reflect"}),
    ("Pad", [IMAGE, _ints(0, 0, 1, 2, 0, 0, 2, 1)], {"mode": "edge"}),
    ("Range", [np.int64(1), np.int64(9), np.int64(3)], {}),
    ("Reshape", [IMAGE, _ints(0, -1, 3)], {}),
    ("Shape", [IMAGE], {"start": 1, "end": 3}),
    ("Slice", [IMAGE, _ints(1, -3), _ints(9, 2**62), _ints(1, -1), _ints(2, 1)], {}),
    ("Slice", [IMAGE, _ints(-1), _ints(-(2**62)), _ints(2), _ints(-2)], {}),
    ("Split", [FLAT, _ints(3, 5)], {"axis": 1}),
    ("Split", [FLAT], {"axis": 1, "num_outputs": 2}),
    ("Squeeze", [_floats(1, 3, 1), _ints(0)], {}),
    ("Squeeze", [_floats(1, 3, 1)], {}),
    ("Tile", [FLAT, _ints(2, 1)], {}),
    ("Unsqueeze", [FLAT, _ints(0, -1)], {}),
    ("Where", [TRUTH, FLAT, _floats(1)], {}),
]  # fmt: skip


def _model(
    operator: str, inputs: list[np.ndarray | None], attributes: dict[str, Any], opset: int = 18, domain: str = ""
) -> onnx.ModelProto:
    names = ["" if array is None else f"in{position}" for position, array in enumerate(inputs)]
    outputs = ["out", "more"] if operator == "Split" else ["out"]
    node = helper.make_node(operator, names, outputs, "it", domain=domain, **attributes)
    given = [(name, np.asarray(array)) for name, array in zip(names, inputs, strict=True) if array is not None]
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in given
    ]
    results = [helper.make_value_info(name, onnx.TypeProto()) for name in outputs]
    graph = helper.make_graph([node], "one", values, results)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("acme", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def _compare(operator: str, inputs: list[np.ndarray | None], attributes: dict[str, Any], opset: int = 18) -> None:
    model = _model(operator, inputs, attributes, opset)
    given = [np.asarray(array) for array in inputs if array is not None]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, dict(zip([value.name for value in model.graph.input], given, strict=True)))
    found = QuantizedNetwork(model, model)(*(torch.from_numpy(array.copy()) for array in given))
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.detach().numpy().dtype == theirs.dtype
        np.testing.assert_allclose(mine.detach().numpy(), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("operator", "inputs", "attributes"), CASES, ids=[case[0] for case in CASES])
def test_an_operator_computes_what_onnx_runtime_computes(
    operator: str, inputs: list[np.ndarray | None], attributes: dict[str, Any]
) -> None:
    _compare(operator, inputs, attributes)


def test_gelu_of_newer_opsets() -> None:
    _compare("Gelu", [FLAT], {}, opset=20)
    _compare("Gelu", [FLAT], {"approximate": "tanh"}, opset=20)


def test_axes_that_older_opsets_keep_in_attributes() -> None:
    _compare("ReduceMean", [IMAGE], {"axes": [2, 3]}, opset=13)
    _compare("Unsqueeze", [FLAT], {"axes": [0]}, opset=11)
    _compare("Squeeze", [_floats(1, 3)], {"axes": [0]}, opset=11)
    _compare("Split", [FLAT], {"split": [2, 6], "axis": 1}, opset=11)


def test_every_operator_of_the_table_is_compared() -> None:
    assert set(OPERATORS) - {case[0] for case in CASES} == {"Gelu", "Dropout"}


def test_dropout_passes_everything_on() -> None:
    _compare("Dropout", [FLAT], {})


def test_an_unknown_operator_is_refused_by_name() -> None:
    model = _model("Frobnicate", [FLAT], {}, domain="acme")
    with pytest.raises(
        UnsupportedError, match=r"operator 'acme.Frobnicate' of node 'it' cannot be trained.*known: Abs"
    ):
        QuantizedNetwork(model, model)


def test_automatic_padding_is_refused() -> None:
    model = _model("Conv", [IMAGE, FILTER], {"auto_pad": "SAME_UPPER"})
    with pytest.raises(UnsupportedError, match=r"node 'it' \(Conv\) pads by auto_pad SAME_UPPER; only explicit pads"):
        QuantizedNetwork(model, model)


def test_a_second_output_is_refused() -> None:
    model = _model("MaxPool", [IMAGE], {"kernel_shape": [2, 2]})
    model.graph.node[0].output.append("places")
    with pytest.raises(UnsupportedError, match=r"node 'it' \(MaxPool\) has outputs out, places; only the first"):
        QuantizedNetwork(model, model)


def test_an_average_over_uneven_padding_that_does_not_count_is_refused() -> None:
    model = _model("AveragePool", [IMAGE], {"kernel_shape": [3, 3], "pads": [0, 1, 1, 1]})
    with pytest.raises(UnsupportedError, match="an AveragePool pads its sides differently"):
        QuantizedNetwork(model, model)(torch.from_numpy(IMAGE))
