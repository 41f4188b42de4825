"""Small linear layers in FP32 on a CPU without VNNI: which ones, and that they multiply what was not rounded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.studies import small_products as study
from compress.quantize.model import quantize_model
from export.model import OnnxModel
from targets.base import Scheme
from targets.openvino import OpenVino
from targets.openvino.small_products import multiply_in_float

TARGET = OpenVino()
pytestmark = pytest.mark.skipif(bool(TARGET.unavailable()), reason=str(TARGET.unavailable()))

IMAGES = np.random.default_rng(0).standard_normal((16, 3, 8, 8)).astype(np.float32)
OLD, NEW = frozenset({"avx2"}), frozenset({"avx2", "vnni"})


def classifier(path: Path, turned: bool, rows: bool = False) -> OnnxModel:
    """Convolutions and a linear layer of 128 x 5; its weight may be turned; `rows`: it reads a row for every pixel."""
    generator = np.random.default_rng(1)

    def weights(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array((0.1 * generator.standard_normal(shape)).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c"], "c", kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["a"], "a"),
        helper.make_node("Conv", ["a", "w1"], ["d"], "d", kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Relu", ["d"], ["e"], "e"),
        helper.make_node("Transpose", ["e"], ["t"], "t", perm=[0, 2, 3, 1])
        if rows
        else helper.make_node("ReduceMean", ["e", "axes"], ["t"], "t", keepdims=0),
        helper.make_node("MatMul", ["t", "w2"], ["m"], "linear")
        if rows
        else helper.make_node("Gemm", ["t", "w2", "b"], ["m"], "linear", transB=int(turned)),
    ]
    initializers = [
        weights("w0", 128, 3, 3, 3),
        weights("w1", 128, 128, 3, 3),
        weights("w2", *((5, 128) if turned else (128, 5))),
        weights("b", 5),
        numpy_helper.from_array(np.array([2, 3]), "axes"),
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])
    made = helper.make_tensor_value_info("m", TensorProto.FLOAT, ["batch", *((8, 8) if rows else ()), 5])
    graph = helper.make_graph(nodes, "classifier", [given], [made], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return OnnxModel.read(path)


def scheme_of(name: str) -> Scheme:
    return next(scheme for scheme in TARGET.schemes() if scheme.name == name)


def network_of(model: OnnxModel):
    import openvino

    return openvino.Core().read_model(model.path)


def kinds(network) -> list[str]:
    return [node.get_type_name() for node in network.get_ordered_ops()]


@pytest.mark.parametrize("name", ["int8", "int8-nncf"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_classifier_multiplies_what_was_not_rounded(tmp_path, monkeypatch, name, turned):
    model = classifier(tmp_path / "fp32.onnx", turned)
    quantized = quantize_model(model, [{"x": IMAGES}], scheme_of(name), tmp_path / "int8.onnx")
    answers, products = {}, {}
    for features in (OLD, NEW):
        monkeypatch.setattr("targets.openvino.instruction_sets", lambda features=features: features)
        folder = tmp_path / "-".join(sorted(features))
        folder.mkdir()
        engine = TARGET.compile(quantized, scheme_of(name), folder)
        products[features] = engine.operators
        with TARGET.load(engine, threads=1) as session:
            answers[features] = session.run({"x": IMAGES})["m"].copy()
    assert products[OLD]["int8"] < products[NEW]["int8"]
    assert not np.array_equal(answers[OLD], answers[NEW])
    scale = np.abs(answers[NEW]).max()
    assert np.abs(answers[OLD] - answers[NEW]).max() < 0.02 * scale

    changed = network_of(quantized)
    before = kinds(changed).count("FakeQuantize")
    assert multiply_in_float(changed) == 1
    assert kinds(changed).count("FakeQuantize") == before - 1
    assert multiply_in_float(changed) == 0


def test_the_weights_are_those_of_8_bits(tmp_path):
    model = classifier(tmp_path / "fp32.onnx", turned=True)
    quantized = quantize_model(model, [{"x": IMAGES}], scheme_of("int8"), tmp_path / "int8.onnx")
    network = network_of(quantized)
    assert multiply_in_float(network) == 1
    [product] = [node for node in network.get_ordered_ops() if node.get_type_name() == "MatMul"]
    held = {each.name: numpy_helper.to_array(each) for each in quantized.proto().graph.initializer}
    integers, scale = held["w2_quantized"].astype(np.float32), held["w2_scale"]
    assert held["w2_quantized"].dtype == np.int8 and not held["w2_zero_point"].any()
    expected = integers * scale.reshape(-1, 1)
    assert np.array_equal(np.asarray(product.input_value(1).get_node().data), expected)


def test_large_layers_rows_and_networks_of_small_ones_stay_in_8_bits(tmp_path):
    quantized = quantize_model(
        classifier(tmp_path / "fp32.onnx", turned=False), [{"x": IMAGES}], scheme_of("int8"), tmp_path / "int8.onnx"
    )
    assert multiply_in_float(network_of(quantized), largest=639) == 0
    assert multiply_in_float(network_of(quantized), share=0.01) == 0
    assert multiply_in_float(network_of(quantized), largest=640, share=0.05) == 1
    rows = classifier(tmp_path / "rows.onnx", turned=False, rows=True)
    rows = quantize_model(rows, [{"x": IMAGES}], scheme_of("int8"), tmp_path / "rows-int8.onnx")
    assert multiply_in_float(network_of(rows)) == 0
    assert multiply_in_float(network_of(classifier(tmp_path / "plain.onnx", turned=False))) == 0


def test_the_study_measures_such_a_layer(tmp_path):
    study.network(tmp_path / "model.onnx", 64, 10)
    assert multiply_in_float(network_of(OnnxModel.read(tmp_path / "model.onnx")), share=np.inf) == 1
