"""What a model has quantized, read back from real Q/DQ files and from a hand-made IR."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks.explain.graph import Quantized, find, quantization_of
from compress.quantize.model import quantize_model
from targets import Engine, target_class
from tests.targets import networks

IR = """<net><layers>
<layer id="0" name="x" type="Parameter"><output><port id="0"/></output></layer>
<layer id="1" name="fq" type="FakeQuantize"><input><port id="0"/></input><output><port id="1"/></output></layer>
<layer id="2" name="w" type="Const"><data element_type="i8"/><output><port id="0"/></output></layer>
<layer id="3" name="to_float" type="Convert"><input><port id="0"/></input><output><port id="1"/></output></layer>
<layer id="4" name="both" type="MatMul"><input><port id="0"/><port id="1"/></input><output><port id="2"/></output></layer>
<layer id="5" name="one" type="MatMul"><input><port id="0"/><port id="1"/></input><output><port id="2"/></output></layer>
</layers><edges>
<edge from-layer="0" from-port="0" to-layer="1" to-port="0"/>
<edge from-layer="2" from-port="0" to-layer="3" to-port="0"/>
<edge from-layer="1" from-port="1" to-layer="4" to-port="0"/>
<edge from-layer="3" from-port="1" to-layer="4" to-port="1"/>
<edge from-layer="4" from-port="2" to-layer="5" to-port="0"/>
<edge from-layer="3" from-port="1" to-layer="5" to-port="1"/>
</edges></net>"""


def _engine(path: Path) -> Engine:
    return Engine("any", "int8", path, (path,), (), (), build_s=0.0)


def test_an_ir_tells_each_side_of_a_product(tmp_path: Path) -> None:
    (tmp_path / "model.xml").write_text(IR)
    found = quantization_of(_engine(tmp_path / "model.xml"))
    assert found["both"] == Quantized("MatMul", (True, True), True)
    assert found["one"] == Quantized("MatMul", (False, True), True)


def test_an_onnx_model_tells_each_side_and_the_result(tmp_path: Path) -> None:
    """x quantized, w not; then both, with a quantized result behind a Relu."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("MatMul", ["xd", "w"], ["half"], "one_side"),
        helper.make_node("DequantizeLinear", ["wq", "s", "z"], ["wd"]),
        helper.make_node("Transpose", ["wd"], ["wt"], "turn"),
        helper.make_node("MatMul", ["xd", "wt"], ["y"], "both"),
        helper.make_node("QuantizeLinear", ["y", "s", "z"], ["yq"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 4]) for name in ("x", "w")]
    constant = helper.make_tensor("wq", TensorProto.UINT8, [4, 4], [0] * 16)
    graph = helper.make_graph(nodes, "g", values, [helper.make_empty_tensor_value_info("yq")], [constant])
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    found = quantization_of(_engine(tmp_path / "model.ort"))
    assert found["one_side"] == Quantized("MatMul", (True, False), False)
    assert found["both"] == Quantized("MatMul", (True, True), True)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime_mobile"])
def test_a_quantized_network_is_found_under_the_runtimes_names(name: str, tmp_path: Path) -> None:
    target = target_class(name)()
    if reason := target.unavailable():
        pytest.skip(reason)
    scheme = next(each for each in target.schemes() if each.precision == "int8" and each.mode == "static")
    model = networks.convolutional(tmp_path / "in.onnx")
    quantized = quantize_model(model, [networks.images(16)], scheme, tmp_path / "quantized.onnx")
    engine = target.compile(quantized, scheme, tmp_path)
    known = quantization_of(engine)
    profile = target.profile(engine, networks.images(1), threads=1, runs=4)
    products = [find(layer.name, known) for layer in profile.layers if "Conv" in layer.operator]
    assert len(products) == 2
    assert all(entry is not None for entry in products)


def test_names_of_fused_operators_lead_to_their_product(tmp_path: Path) -> None:
    networks.convolutional(tmp_path / "model.onnx")
    found = quantization_of(_engine(tmp_path / "model.ort"))
    for name in ("first", "first/WithoutBiases", "r1_nchwc", "first_token_7", "first_quant"):
        entry = find(name, found)
        assert entry is not None and entry.operator == "Conv", name
    assert find("nobody", found) is None


def test_without_a_source_nothing_is_known(tmp_path: Path) -> None:
    assert quantization_of(_engine(tmp_path / "model.ort")) == {}
