"""Cleaning against hand-made ONNX graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.clean import count_not_finite, strip, write_clean
from export.errors import QualityError, UnsupportedError


def add_model(weight: np.ndarray, operator: str = "Add") -> onnx.ModelProto:
    node = helper.make_node(operator, ["x", "w"], ["y"], name="node", doc_string="/home/someone/model.py")
    node.metadata_props.add(key="stack_trace", value="/home/someone/model.py:3")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3], doc_string="/home/someone")
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph([node], "graph", [x], [y], [numpy_helper.from_array(weight, "w")], value_info=[y])
    graph.metadata_props.add(key="folder", value="/home/someone")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    model.metadata_props.add(key="folder", value="/home/someone")
    return model


def test_write_clean_strips_checks_and_reads(tmp_path: Path) -> None:
    model = write_clean(add_model(np.ones(3, np.float32)), tmp_path / "model.onnx")
    assert model.inputs[0].shape == ("batch", 3)
    assert b"/home/someone" not in model.path.read_bytes()
    assert not model.proto().graph.value_info
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_subgraphs_and_functions_are_stripped() -> None:
    inner = add_model(np.ones(3, np.float32))
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner.graph, else_branch=inner.graph)
    outer = helper.make_model(helper.make_graph([node], "outer", [], []))
    function = helper.make_function("domain", "f", ["x"], ["y"], list(inner.graph.node), [])
    function.doc_string = "/home/someone"
    outer.functions.append(function)
    strip(outer)
    assert b"/home/someone" not in outer.SerializeToString()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite_initializer(bad: float, tmp_path: Path) -> None:
    with pytest.raises(QualityError, match=r"'w': 1 of 3 values are NaN or Inf; weights must be finite"):
        write_clean(add_model(np.array([1, bad, 2], np.float32)), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_checker_refuses_an_unknown_operator(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"model.onnx: the ONNX checker refuses the model: .*Nonsense"):
        write_clean(add_model(np.ones(3, np.float32), "Nonsense"), tmp_path / "model.onnx")


def test_attention_mask_may_hold_minus_infinity() -> None:
    assert count_not_finite(np.triu(np.full((3, 3), -np.inf, np.float32), 1)) == 0
    assert count_not_finite(np.array(-np.inf, np.float32)) == 0
    assert count_not_finite(np.array([-np.inf, 0.1, 0.2], np.float32)) == 1
    assert count_not_finite(np.array([1, 2])) == 0
