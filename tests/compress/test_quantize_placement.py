"""Where the integers are, counted in each runtime's own optimised graph; and weight-only quantization."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from transformers import BertConfig

from compress.quantize import Quantize
from compress.quantize.model import quantize_model
from examples.sst2.minilm import SentenceClassifier
from export.model import OnnxModel
from export.to_onnx import to_onnx
from targets import FP32, Scheme, target_class
from targets.onnxruntime_mobile import OnnxRuntimeMobile
from targets.openvino import OpenVino
from tests.targets import networks

CONVOLUTIONS = 5


def _residual(path: Path) -> OnnxModel:
    """Stem, two residual blocks, concatenation with the stem, global pool, Gemm: image (batch, 3, 12, 12) -> (batch, 4)."""
    random = np.random.default_rng(5)
    weights = {"w0": random.normal(0, 0.3, (16, 3, 3, 3)), "wh": random.normal(0, 0.3, (4, 32)), "bh": np.zeros(4)}
    nodes = [
        helper.make_node("Conv", ["image", "w0", "b0"], ["c0"], "stem", pads=[1] * 4),
        helper.make_node("Relu", ["c0"], ["x0"], "relu0"),
    ]
    for block in (1, 2):
        for part in "ab":
            weights[f"w{block}{part}"] = random.normal(0, 0.1, (16, 16, 3, 3))
        nodes += [
            helper.make_node(
                "Conv", [f"x{block - 1}", f"w{block}a", "b0"], [f"a{block}"], f"conv{block}a", pads=[1] * 4
            ),
            helper.make_node("Relu", [f"a{block}"], [f"r{block}"], f"relu{block}a"),
            helper.make_node("Conv", [f"r{block}", f"w{block}b", "b0"], [f"b{block}"], f"conv{block}b", pads=[1] * 4),
            helper.make_node("Add", [f"b{block}", f"x{block - 1}"], [f"s{block}"], f"add{block}"),
            helper.make_node("Relu", [f"s{block}"], [f"x{block}"], f"relu{block}b"),
        ]
    nodes += [
        helper.make_node("Concat", ["x0", "x2"], ["both"], "concat", axis=1),
        helper.make_node("GlobalAveragePool", ["both"], ["mean"], "pool"),
        helper.make_node("Flatten", ["mean"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "wh", "bh"], ["logits"], "head", transB=1),
    ]
    weights["b0"] = np.full(16, 0.01)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 12, 12])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "residual", [image], [logits], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return OnnxModel.read(path)


def _optimised(model: OnnxModel, path: Path) -> Counter[str]:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def test_onnxruntime_runs_a_residual_network_in_integers(tmp_path: Path) -> None:
    model = _residual(tmp_path / "model.onnx")
    scheme = OnnxRuntimeMobile().schemes(model)[0]
    kinds = _optimised(
        quantize_model(model, [networks.images(16)], scheme, tmp_path / "quantized.onnx"), tmp_path / "optimised.onnx"
    )
    assert kinds["QLinearConv"] == CONVOLUTIONS
    assert (kinds["QLinearAdd"], kinds["QLinearConcat"], kinds["QLinearGlobalAveragePool"], kinds["QGemm"]) == (
        2,
        1,
        1,
        1,
    )
    assert not {"Conv", "FusedConv", "Gemm", "FusedGemm", "Add", "Concat", "GlobalAveragePool"} & kinds.keys()
    assert (kinds["QuantizeLinear"], kinds["DequantizeLinear"]) == (1, 0)


@pytest.mark.parametrize("quantizer", ["onnxruntime", "nncf"])
def test_a_bias_that_layers_share_becomes_one_for_each(quantizer: str, tmp_path: Path) -> None:
    """All convolutions of the network read b0; each is corrected by its own error."""
    pytest.importorskip("nncf")
    model, images = _residual(tmp_path / "model.onnx"), networks.images(32)
    expected = networks.float_outputs(model, images)
    errors = []
    for corrected in (False, True):
        scheme = Scheme("int8", "int8", quantizer, reduce_range=True, bias_correction=corrected)  # type: ignore[arg-type]
        quantized = quantize_model(model, [images], scheme, tmp_path / "quantized.onnx")
        errors.append(float(np.abs((networks.float_outputs(quantized, images) - expected).mean(axis=0)).max()))
    biases = {node.input[2] for node in quantized.proto().graph.node if node.op_type == "Conv"}
    assert len(biases) == CONVOLUTIONS
    assert errors[1] < 0.01 * np.ptp(expected)


def test_openvino_runs_every_convolution_in_integers(tmp_path: Path) -> None:
    target = OpenVino()
    if reason := target.unavailable():
        pytest.skip(reason)
    from openvino import Core

    model = _residual(tmp_path / "model.onnx")
    for scheme in target.schemes(model)[:2]:
        quantized = quantize_model(model, [networks.images(16)], scheme, tmp_path / f"{scheme.name}.onnx")
        compiled = Core().compile_model(str(quantized.path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        ran = [
            (op.get_rt_info()["layerType"].astype(str), op.get_rt_info()["runtimePrecision"].astype(str))
            for op in compiled.get_runtime_model().get_ordered_ops()
        ]
        convolutions = [precision for kind, precision in ran if kind == "Convolution"]
        assert len(convolutions) == CONVOLUTIONS, scheme.name
        assert set(convolutions) <= {"u8", "i8"}, scheme.name


@pytest.mark.parametrize("target", ["openvino", "onnxruntime_mobile"])
@pytest.mark.parametrize(("name", "ratio"), [("int8-weights", 0.5), ("int4-weights", 0.4)])
def test_weight_only_shrinks_the_file_and_keeps_activations_float(
    target: str, name: str, ratio: float, tmp_path: Path
) -> None:
    made = target_class(target)()
    if reason := made.unavailable():
        pytest.skip(reason)
    scheme = next(scheme for scheme in made.schemes() if scheme.name == name)
    assert not scheme.needs_calibration
    model = networks.attention(tmp_path / "model.onnx")
    quantized = quantize_model(model, [], scheme, tmp_path / "quantized.onnx")
    kinds = {node.op_type for node in quantized.proto().graph.node}
    assert not {"QuantizeLinear", "DynamicQuantizeLinear"} & kinds
    before, after = (_product_bytes(each.proto()) for each in (model, quantized))
    assert after < ratio * before


def _product_bytes(proto: onnx.ModelProto) -> int:
    """Bytes of everything constant but the embedding table, which stays as it is in some of the schemes."""
    return sum(len(t.SerializeToString()) for t in proto.graph.initializer if "table" not in t.name and len(t.dims) > 1)


def test_a_recipe_names_schemes_that_are_not_usual_and_changes_static_ones(tmp_path: Path) -> None:
    target, model = OnnxRuntimeMobile(), networks.convolutional(tmp_path / "model.onnx")
    assert [scheme.name for scheme in Quantize().chosen(target, model)] == ["int8", "fp32"]
    step = Quantize(schemes=("w4a8", "int8-dynamic", "unknown"), ranges="entropy", adaround=True, bias_correction=False)
    chosen = step.chosen(target, model)
    assert [scheme.name for scheme in chosen] == ["w4a8", "int8-dynamic", "fp32"]
    assert (chosen[0].ranges, chosen[0].adaround, chosen[0].bias_correction) == ("entropy", True, False)
    assert [Quantize(adaround=said).changed(chosen[0]).adaround for said in (None, False)] == [True, False]
    assert chosen[1] == next(scheme for scheme in target.schemes() if scheme.name == "int8-dynamic")
    assert chosen[2] == FP32


def test_a_scheme_of_the_network_goes_before_one_of_the_same_name(tmp_path: Path) -> None:
    target = OpenVino()
    of_attention = Quantize(schemes=("int8",)).chosen(target, networks.attention(tmp_path / "a.onnx"))[0]
    of_convolutions = Quantize(schemes=("int8",)).chosen(target, networks.convolutional(tmp_path / "c.onnx"))[0]
    assert (of_attention.quantizer, of_convolutions.quantizer) == ("nncf", "onnxruntime")


def test_fields_are_plain_schemes_until_set() -> None:
    scheme = Scheme("int8", "int8", "onnxruntime", ranges="mse", bias_correction=True)
    assert Quantize().changed(scheme) == scheme


def test_openvino_compiles_a_bert_of_one_token_type(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=40,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        type_vocab_size=1,
        max_position_embeddings=16,
    )
    ids = torch.randint(1, 40, (4, 6))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    axes = {name: {0: "batch", 1: "length"} for name in inputs}
    model = to_onnx(SentenceClassifier(config).eval(), inputs, axes, ("logits",), tmp_path / "m.onnx", 18)
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    target = OpenVino()
    scheme = next(each for each in target.schemes(model) if each.name == "int8")
    quantized = quantize_model(model, [arrays], scheme, tmp_path / "q.onnx")
    with target.load(target.compile(quantized, scheme, tmp_path), 1) as session:
        [found] = session.run(arrays).values()
    assert found.shape == (4, 2) and np.isfinite(found).all()
