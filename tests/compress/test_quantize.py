"""Quantization: what is inserted, how calibration streams, and what is refused."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from compress.quantize import Quantize
from compress.quantize.model import quantize_model
from compress.quantize.scales import refuse_broken_scales
from export.errors import InputError, QualityError
from export.model import OnnxModel
from targets.base import Arrays, Scheme
from tests.targets import networks

STATIC = Scheme("int8", "int8", "onnxruntime")
SIGNED = replace(STATIC, activations="int8", symmetric_activations=True, quantize_bias=False)
DYNAMIC = Scheme("int8-dynamic", "int8", "onnxruntime", mode="dynamic")
NNCF = Scheme("int8-nncf", "int8", "nncf", reduce_range=True)


def _quantized(model: OnnxModel, scheme: Scheme, calibration: list[Arrays] | Iterator[Arrays]) -> onnx.GraphProto:
    return quantize_model(model, calibration, scheme, model.path.with_name("quantized.onnx")).proto().graph


def _tensors(graph: onnx.GraphProto, of_type: str, position: int) -> list[np.ndarray]:
    """The constant inputs at a position of all nodes of a type."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    names = {node.input[position] for node in graph.node if node.op_type == of_type}
    return [constants[name] for name in sorted(names & constants.keys())]


@pytest.fixture
def network(tmp_path: Path) -> OnnxModel:
    return networks.convolutional(tmp_path / "model.onnx")


def test_static_weights_have_a_scale_for_each_channel(network: OnnxModel) -> None:
    graph = _quantized(network, STATIC, [networks.images(8)])
    weights = [tensor for tensor in graph.initializer if tensor.data_type == TensorProto.INT8 and len(tensor.dims) > 1]
    assert sorted(tuple(tensor.dims) for tensor in weights) == [(4, 16), (16, 1, 3, 3), (16, 3, 3, 3)]
    assert {16, 4} <= {scale.size for scale in _tensors(graph, "DequantizeLinear", 1)}
    assert Counter(node.op_type for node in graph.node)["QuantizeLinear"] >= 4


def test_unsigned_activations_have_bytes_for_zero_points_and_signed_ones_zero(network: OnnxModel) -> None:
    unsigned = _tensors(_quantized(network, STATIC, [networks.images(8)]), "QuantizeLinear", 2)
    assert {zero.dtype for zero in unsigned} == {np.dtype("uint8")}
    signed = _tensors(_quantized(network, SIGNED, [networks.images(8)]), "QuantizeLinear", 2)
    assert {zero.dtype for zero in signed} == {np.dtype("int8")}
    assert not any(zero.any() for zero in signed)


def test_the_bias_is_quantized_only_where_the_scheme_says_so(network: OnnxModel) -> None:
    for scheme, types in ((STATIC, {TensorProto.INT32}), (SIGNED, set())):
        graph = _quantized(network, scheme, [networks.images(8)])
        assert {tensor.data_type for tensor in graph.initializer if tensor.data_type == TensorProto.INT32} == types


def test_a_reduced_range_keeps_weights_in_seven_bits(network: OnnxModel) -> None:
    for reduced, largest in ((False, 127), (True, 64)):
        graph = _quantized(network, replace(STATIC, reduce_range=reduced), [networks.images(8)])
        weights = [numpy_helper.to_array(t) for t in graph.initializer if t.data_type == TensorProto.INT8 and t.dims]
        assert max(int(np.abs(weight.astype(np.int16)).max()) for weight in weights) in (largest, largest - 1)


def test_the_scale_of_the_input_is_its_range_over_all_batches(network: OnnxModel) -> None:
    """Affine quantization, (max - min) / 255, over batches whose extremes lie apart."""
    batches = [networks.images(4, seed) for seed in range(5)]
    batches[1]["image"][0, 0, 0, 0], batches[4]["image"][0, 0, 0, 0] = -9.0, 7.0
    graph = _quantized(network, STATIC, iter(batches))
    scale = next(node.input[1] for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "image")
    value = next(numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name == scale)
    assert float(value) == pytest.approx(16 / 255, rel=1e-5)


@pytest.mark.parametrize("scheme", [STATIC, NNCF], ids=lambda scheme: scheme.name)
def test_calibration_is_read_once_and_not_held(network: OnnxModel, scheme: Scheme) -> None:
    """When a batch is asked for, all but the latest ones have been let go."""
    import weakref

    pytest.importorskip("nncf")
    given: list[weakref.ref[np.ndarray]] = []
    alive: list[int] = []

    def batches() -> Iterator[Arrays]:
        for seed in range(12):
            batch = networks.images(1, seed)
            given.append(weakref.ref(batch["image"]))
            yield batch
            del batch
            alive.append(sum(reference() is not None for reference in given))

    _quantized(network, scheme, batches())
    assert len(given) == 12
    assert max(alive) <= 3


def test_dynamic_needs_no_calibration_and_leaves_convolutions_float(network: OnnxModel, tmp_path: Path) -> None:
    assert not DYNAMIC.needs_calibration
    kinds = {node.op_type for node in _quantized(networks.attention(tmp_path / "a.onnx"), DYNAMIC, []).node}
    assert "MatMulInteger" in kinds
    convolutional = {node.op_type for node in _quantized(network, DYNAMIC, []).node}
    assert "Conv" in convolutional
    assert "ConvInteger" not in convolutional


def test_the_products_of_attention_itself_stay_float(tmp_path: Path) -> None:
    graph = _quantized(networks.attention(tmp_path / "model.onnx"), STATIC, [networks.sentences(8)])
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    softmax = next(node for node in graph.node if node.op_type == "Softmax")
    assert made_by[softmax.input[0]] != "DequantizeLinear"
    assert Counter(node.op_type for node in graph.node)["QuantizeLinear"] >= 2


def test_nncf_quantizes_activations_with_one_scale_a_tensor(network: OnnxModel) -> None:
    pytest.importorskip("nncf")
    graph = _quantized(network, NNCF, [networks.images(8)])
    assert {scale.size for scale in _tensors(graph, "QuantizeLinear", 1)} == {1}


@pytest.mark.parametrize("scheme", [STATIC, DYNAMIC, NNCF], ids=lambda scheme: scheme.name)
def test_nothing_is_printed_and_nothing_left_behind(
    network: OnnxModel, scheme: Scheme, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nncf")
    folder = network.path.parent
    (folder / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder / "temporary"))
    monkeypatch.chdir(folder)
    _quantized(network, scheme, [networks.images(8)])
    assert capfd.readouterr() == ("", "")
    assert sorted(file.name for file in folder.rglob("*")) == ["model.onnx", "quantized.onnx", "temporary"]
    assert logging.root.manager.disable == logging.NOTSET


@pytest.mark.parametrize("scheme", [STATIC, NNCF], ids=lambda scheme: scheme.name)
def test_empty_calibration_is_refused(network: OnnxModel, scheme: Scheme) -> None:
    with pytest.raises(InputError, match=r"calibration data: found no sample, allowed: 1 or more"):
        _quantized(network, scheme, [])
    assert not network.path.with_name("quantized.onnx").exists()


def test_calibration_without_an_input_or_with_nan_is_refused(network: OnnxModel) -> None:
    with pytest.raises(InputError, match=r"batch 1: found inputs pixels, lacking image"):
        _quantized(network, STATIC, [networks.images(1), {"pixels": networks.images(1)["image"]}])
    broken = networks.images(2)
    broken["image"][1, 0, 0, :2] = np.nan
    with pytest.raises(InputError, match=r"batch 0: input 'image' holds 2 NaN or Inf values"):
        _quantized(network, STATIC, [broken])


def test_nan_in_a_weight_is_refused_by_name(network: OnnxModel) -> None:
    _break(network, "w2", np.nan)
    with pytest.raises(QualityError, match=r"weight 'w2' of node 'depthwise' holds 1 NaN or Inf values of 144"):
        _quantized(network, STATIC, [networks.images(2)])


def test_an_activation_that_overflows_is_refused_by_name(network: OnnxModel) -> None:
    """A finite weight of 3e38 makes what follows overflow."""
    _break(network, "w1", 3e38)
    with pytest.raises(QualityError, match=r"tensor '.*' reaches NaN or Inf on the calibration data"):
        _quantized(network, STATIC, [networks.images(2)])


def test_an_infinite_scale_is_refused_by_name(network: OnnxModel) -> None:
    """Whichever quantizer wrote it."""
    graph = _quantized(network, STATIC, [networks.images(2)])
    name = next(node.input[1] for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "image")
    scale = next(tensor for tensor in graph.initializer if tensor.name == name)
    scale.CopyFrom(numpy_helper.from_array(np.array(np.inf, np.float32), name))
    with pytest.raises(QualityError, match=rf"scale '{name}' of tensor 'image' .* holds 1 NaN or Inf values of 1"):
        refuse_broken_scales(graph)


@pytest.mark.parametrize(("scheme", "operator"), [(STATIC, "DequantizeLinear"), (DYNAMIC, "Mul")])
def test_a_scale_of_zero_is_refused_by_name(network: OnnxModel, scheme: Scheme, operator: str) -> None:
    """In the place where each kind of quantization keeps the scales of its weights."""
    graph = _quantized(network, scheme, [networks.images(2)])
    constants = {tensor.name: tensor for tensor in graph.initializer}
    node = next(node for node in graph.node if node.op_type == operator and "w3_scale" in node.input)
    refuse_broken_scales(graph)
    broken = numpy_helper.to_array(constants["w3_scale"]).copy()
    broken.flat[0] = 0.0
    constants["w3_scale"].CopyFrom(numpy_helper.from_array(broken, "w3_scale"))
    sentence = rf"scale 'w3_scale' of tensor .* \({operator} '{node.name}'\) holds 1 values of {broken.size} that are 0 or less"
    with pytest.raises(QualityError, match=sentence + ".*a scale of 0 makes everything it quantizes 0"):
        refuse_broken_scales(graph)


def test_the_scale_of_an_output_is_refused_by_the_output() -> None:
    """QLinearConv: x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point."""
    inputs = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
    scales = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in (("ws", 0.1), ("ys", -0.5))]
    conv = onnx.helper.make_node("QLinearConv", inputs, ["y"], "conv")
    with pytest.raises(QualityError, match=r"scale 'ys' of tensor 'y' \(QLinearConv 'conv'\) holds 1 values of 1"):
        refuse_broken_scales(onnx.helper.make_graph([conv], "graph", [], [], scales))


def test_a_scheme_without_quantizer_is_refused(network: OnnxModel) -> None:
    with pytest.raises(ValueError, match=r"scheme 'fp16': quantizer 'none' inserts nothing"):
        _quantized(network, Scheme("fp16", "fp16"), [])


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"calibration_samples: found 0, allowed: 1 or more"):
        Quantize(calibration_samples=0)
    with pytest.raises(ValueError, match=r"smooth: found 1\.5, allowed: from 0 \(none\) to 1"):
        Quantize(smooth=1.5)
    with pytest.raises(ValueError, match=r"schemes: found int8 more than once"):
        Quantize(schemes=("int8", "fp32", "int8"))


def _break(network: OnnxModel, name: str, value: float) -> None:
    proto = network.proto()
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            weights = numpy_helper.to_array(tensor).copy()
            weights.flat[0] = value
            tensor.CopyFrom(numpy_helper.from_array(weights, name))
    onnx.save(proto, network.path)


def test_a_bias_that_two_nodes_read_takes_no_other_tensors_name(tmp_path: Path) -> None:
    """ONNX Runtime's quantizer copies it under its name and a number: here those of the image's sizes, as with two group norms."""
    constants = {"scale": np.ones(4, np.float32), "val_1": np.arange(4, dtype=np.float32)}
    nodes = [
        onnx.helper.make_node("InstanceNormalization", ["image", "scale", "val_1"], ["a"], name="norm_0"),
        onnx.helper.make_node("InstanceNormalization", ["a", "scale", "val_1"], ["b"], name="norm_1"),
        *(
            onnx.helper.make_node("Shape", [of], [f"val_1{n}"], name=f"sizes_{n}")
            for n, of in enumerate(("image", "a", "b"))
        ),
        *(onnx.helper.make_node("Reshape", ["b", f"val_1{n}"], [f"c{n}"], name=f"reshape_{n}") for n in range(3)),
        onnx.helper.make_node("Sum", [f"c{n}" for n in range(3)], ["y"], name="sum"),
    ]
    shape = ["batch", 4, 6, 6]
    graph = onnx.helper.make_graph(
        nodes,
        "norms",
        [onnx.helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    path = tmp_path / "model.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10), path)
    images = np.random.default_rng(0).normal(size=(8, 4, 6, 6)).astype(np.float32)
    found = quantize_model(OnnxModel.read(path), [{"image": images}], STATIC, tmp_path / "quantized.onnx")
    made = [name for node in found.proto().graph.node for name in node.output]
    assert len(made) == len(set(made))
    onnxruntime.InferenceSession(str(found.path), providers=["CPUExecutionProvider"])
