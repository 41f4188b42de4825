"""What is done to a Q/DQ model after its nodes are placed: new ranges, corrected biases, learned rounding, 4-bit weights."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from compress.quantize import quantizers
from compress.quantize.activations import activations, observe, together
from compress.quantize.bias import channel_means, correct_biases
from compress.quantize.layers import QdqModel
from compress.quantize.model import quantize_model
from compress.quantize.moments import float_outputs, gather
from compress.quantize.rescale import rescale_activations
from compress.quantize.rounding import best_rounding, learn_rounding, output_error
from compress.quantize.samples import Samples
from compress.quantize.weights import best_scales, requantize_weights
from export.model import OnnxModel
from targets.base import Arrays, Scheme
from tests.targets import networks

STATIC = Scheme("int8", "int8", "onnxruntime", reduce_range=True)


@pytest.fixture
def network(tmp_path: Path) -> OnnxModel:
    return networks.convolutional(tmp_path / "model.onnx")


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    return Samples.spool(iter([networks.images(32)]), tmp_path)


@pytest.fixture
def original(network: OnnxModel, tmp_path: Path) -> onnx.ModelProto:
    with quantizers.quiet():
        return quantizers.prepare(network, tmp_path)


@pytest.fixture
def quantized(network: OnnxModel, samples: Samples, tmp_path: Path) -> QdqModel:
    return QdqModel(quantize_model(network, samples, STATIC, tmp_path / "quantized.onnx").proto())


def test_observed_extremes_are_those_of_the_tensors(original: onnx.ModelProto, samples: Samples) -> None:
    histograms = observe(original, ["image", "logits"], samples)
    [(_, values)] = list(activations(original, ["logits"], [networks.images(32)]))
    assert histograms["logits"].high == pytest.approx(float(values["logits"].max()), rel=1e-6)
    assert histograms["image"].low == float(networks.images(32)["image"].min())


def test_inputs_alone_are_observed(original: onnx.ModelProto, samples: Samples) -> None:
    """A quantizer may place nothing but the input's node."""
    assert observe(original, ["image"], samples)["image"].high == float(networks.images(32)["image"].max())


def test_samples_of_other_shapes_are_not_joined() -> None:
    short, long = networks.sentences(1, length=4), networks.sentences(1, length=9)
    batches = list(together([short, short, short, long, short], most=2))
    assert [batch["ids"].shape for batch in batches] == [(2, 4), (1, 4), (1, 9), (1, 4)]


def test_texts_of_varying_length_set_ranges(tmp_path: Path) -> None:
    model = networks.attention(tmp_path / "model.onnx")
    texts = [networks.sentences(1, length, seed=length) for length in (4, 9, 9, 6, 12)]
    for bias_correction in (False, True):
        scheme = replace(STATIC, ranges="mse", bias_correction=bias_correction)
        quantized = quantize_model(model, texts, scheme, tmp_path / "quantized.onnx")
        assert "QuantizeLinear" in {node.op_type for node in quantized.proto().graph.node}


def test_memory_of_observing_does_not_grow_with_the_samples(original: onnx.ModelProto) -> None:
    def peak(number: int) -> int:
        def stream() -> Iterator[Arrays]:
            for seed in range(number):
                yield networks.images(1, seed)

        tracemalloc.start()
        observe(original, ["image", "sum", "logits"], stream())
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(16)
    assert peak(512) < 1.1 * peak(64)


def test_layers_are_read_as_the_graph_has_them(quantized: QdqModel, original: onnx.ModelProto) -> None:
    assert [layer.node for layer in quantized.layers] == ["first", "depthwise", "head"]
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in original.graph.initializer}
    for layer, name in zip(quantized.layers, ("w1", "w2", "w3"), strict=True):
        wanted = weights[name].reshape(len(weights[name]), -1)
        assert np.abs(quantized.values(layer) - wanted).max() <= quantized.scales(layer).max()
        integers, bias = quantized.integers(layer), quantized.bias(layer)
        assert bias is not None
        quantized.set_integers(layer, integers)
        quantized.set_bias(layer, bias)
        assert (quantized.integers(layer) == integers).all()
        assert quantized.bias(layer) == pytest.approx(bias, abs=1e-6)
    onnx.checker.check_model(quantized.proto)


def test_a_new_scale_keeps_the_bias(quantized: QdqModel) -> None:
    """It is INT32 in steps of the input's scale times the weight's."""
    layer = quantized.layers[0]
    before = quantized.bias(layer)
    quantized.set_scales(layer, 2 * quantized.scales(layer))
    step = float(quantized.array(quantized.made_by[layer.source].input[1])) * quantized.scales(layer).max()
    assert quantized.bias(layer) == pytest.approx(before, abs=step)


def test_corrected_biases_give_each_layer_the_float_mean(
    quantized: QdqModel, original: onnx.ModelProto, samples: Samples
) -> None:
    for layer in quantized.layers:  # a planted error
        bias = quantized.bias(layer)
        assert bias is not None
        quantized.set_bias(layer, bias + 0.3)

    def mean_errors() -> list[float]:
        outputs = float_outputs(quantized.layers, original)
        wanted = channel_means(original, list(outputs.values()), samples, quantized.layers)
        found = channel_means(quantized.proto, [layer.output for layer in quantized.layers], samples, quantized.layers)
        return [float(np.abs(found[layer.output] - wanted[outputs[layer.node]]).max()) for layer in quantized.layers]

    assert min(mean_errors()) > 0.2
    correct_biases(quantized, original, samples)
    assert max(mean_errors()) < 2e-3


def test_moments_are_those_of_numpy(quantized: QdqModel, original: onnx.ModelProto, samples: Samples) -> None:
    """Of the Gemm, whose inputs need no unfolding; and for a convolution, the mean output follows from the mean input."""
    head = quantized.layers[2]
    moments = gather(quantized, original, quantized.layers, samples)
    [(_, values)] = list(activations(quantized.proto, [head.source], [networks.images(32)]))
    x = values[head.source]
    np.testing.assert_allclose(moments["head"].covariance[0], np.cov(x.T, bias=True), atol=1e-5)
    weight = np.asarray(onnx.numpy_helper.to_array(next(t for t in original.graph.initializer if t.name == "w2")))
    known = moments["depthwise"]
    assert known.covariance.shape == (16, 9, 9)
    explained = known.best_bias(weight.reshape(16, 9).astype(np.float64))
    bias = np.asarray(onnx.numpy_helper.to_array(next(t for t in original.graph.initializer if t.name == "b2")))
    assert explained == pytest.approx(bias, abs=0.02)


def test_learned_rounding_is_no_worse_than_nearest_and_nearly_the_best_of_all(
    quantized: QdqModel, original: onnx.ModelProto, samples: Samples
) -> None:
    """The depthwise layer has 9 weights a channel: all 512 roundings are tried."""
    layer = quantized.layers[1]
    known = gather(quantized, original, [layer], samples)[layer.node]
    weight = quantized.values(layer) * 1.037
    scales = best_scales(weight, -8, 7)
    low, high = np.full((16, 1), -8), np.full((16, 1), 7)
    nearest = np.clip(np.round(weight / scales[:, None]), low, high)
    learned = best_rounding(weight, scales, low, high, known)
    assert np.abs(learned - weight / scales[:, None]).max() <= 1 + 1e-9 or learned.min() == -8
    before, after = (output_error(each * scales[:, None], known) for each in (nearest, learned))
    assert (after <= before + 1e-12).all()
    choices = (np.arange(512)[:, None] >> np.arange(9)) & 1
    below = np.floor(weight / scales[:, None])
    exhaustive = np.stack(
        [output_error(np.clip(below + choice, low, high) * scales[:, None], known) for choice in choices]
    ).min(axis=0)
    gained, possible = (before - after).sum(), (before - exhaustive).sum()
    assert possible > 0
    assert gained >= 0.7 * possible


def test_learned_rounding_of_four_bits_beats_the_nearest_at_the_output(
    network: OnnxModel, original: onnx.ModelProto, samples: Samples, tmp_path: Path
) -> None:
    inputs = networks.images(64, seed=9)
    expected = networks.float_outputs(network, inputs)

    def error(adaround: bool) -> float:
        scheme = replace(STATIC, ranges="mse", weight_bits=4, adaround=adaround)
        quantized = quantize_model(network, samples, scheme, tmp_path / "quantized.onnx")
        model = QdqModel(quantized.proto())
        for layer in model.layers:
            assert -8 <= model.integers(layer).min() <= model.integers(layer).max() <= 7
        return float(np.mean((networks.float_outputs(quantized, inputs) - expected) ** 2))

    assert error(adaround=True) < 0.7 * error(adaround=False)


def test_reduced_weights_keep_to_seven_bits_when_rounded_anew(
    network: OnnxModel, original: onnx.ModelProto, samples: Samples, tmp_path: Path
) -> None:
    scheme = replace(STATIC, reduce_range=True, adaround=True)
    quantized = QdqModel(quantize_model(network, samples, scheme, tmp_path / "quantized.onnx").proto())
    assert max(int(np.abs(quantized.integers(layer)).max()) for layer in quantized.layers) <= 64


def test_scales_of_least_squares_are_no_worse_than_the_largest_weights() -> None:
    weight = np.random.default_rng(0).normal(0, 1, (6, 50))
    weight[:, 0] = 6.0

    def error(scales: np.ndarray) -> np.ndarray:
        return np.asarray(((np.clip(np.round(weight / scales[:, None]), -8, 7) * scales[:, None] - weight) ** 2).sum(1))

    full = np.abs(weight).max(axis=1) / 7.5
    assert (error(best_scales(weight, -8, 7)) <= error(full)).all()
    assert error(best_scales(weight, -8, 7)).sum() < 0.98 * error(full).sum()


def test_four_bits_leave_sixteen_values(quantized: QdqModel, original: onnx.ModelProto) -> None:
    requantize_weights(quantized, original, bits=4)
    for layer in quantized.layers:
        assert len(np.unique(quantized.integers(layer))) <= 16


def test_new_ranges_replace_those_of_the_other_quantizer(
    quantized: QdqModel, original: onnx.ModelProto, samples: Samples
) -> None:
    node = next(node for node in quantized.proto.graph.node if node.input[0] == "image")
    quantized.put(node.input[1], np.array(9.0, np.float32))
    rescale_activations(quantized, original, samples, "minmax")
    images = networks.images(32)["image"]
    assert float(quantized.array(node.input[1])) == pytest.approx((images.max() - images.min()) / 255, rel=1e-5)


def test_what_shared_a_scale_shares_the_new_one(
    quantized: QdqModel, original: onnx.ModelProto, samples: Samples
) -> None:
    known = {name for node in original.graph.node for name in node.output} | {"image"}
    nodes = [node for node in quantized.proto.graph.node if node.op_type == "QuantizeLinear" and node.input[0] in known]
    for node in nodes:
        quantized.put(node.input[1], np.array(0.125, np.float32))
        quantized.put(node.input[2], np.array(7, np.uint8))
    rescale_activations(quantized, original, samples, "minmax")
    assert len(nodes) > 1
    assert len({float(quantized.array(node.input[1])) for node in nodes}) == 1


def test_learned_rounding_changes_the_weights_in_the_model(
    quantized: QdqModel, original: onnx.ModelProto, samples: Samples
) -> None:
    requantize_weights(quantized, original, bits=4)
    before = [quantized.integers(layer).copy() for layer in quantized.layers]
    learn_rounding(quantized, original, samples, bits=4, reduced=False)
    moved = [np.abs(quantized.integers(layer) - old).max() for layer, old in zip(quantized.layers, before, strict=True)]
    assert max(moved) == 1


@pytest.mark.parametrize("padding", ["SAME_UPPER", "SAME_LOWER"])
def test_padding_by_name_unfolds_what_the_convolution_reads(padding: str, tmp_path: Path) -> None:
    """From the moments alone, the best bias of the float weight is the float bias: 4x4 kernels pad unevenly."""
    random = np.random.default_rng(2)
    weight, bias = random.normal(0, 0.3, (5, 3, 4, 4)), random.normal(0, 1, 5)
    constants = [onnx.numpy_helper.from_array(v.astype(np.float32), n) for n, v in (("w", weight), ("b", bias))]
    make = onnx.helper.make_node
    nodes = [
        make("Conv", ["image", "w", "b"], ["c"], "conv", auto_pad=padding, strides=[2, 2]),
        make("GlobalAveragePool", ["c"], ["m"], "mean"),
        make("Flatten", ["m"], ["logits"], "flatten"),
    ]
    value = onnx.helper.make_tensor_value_info
    image = value("image", onnx.TensorProto.FLOAT, ["batch", 3, 12, 12])
    graph = onnx.helper.make_graph(nodes, "padded", [image], [value("logits", 1, ["batch", 5])], constants)
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9),
        tmp_path / "m.onnx",
    )
    model = OnnxModel.read(tmp_path / "m.onnx")
    images = [networks.images(64)]
    quantized = QdqModel(quantize_model(model, images, STATIC, tmp_path / "q.onnx").proto())
    known = gather(quantized, model.proto(), quantized.layers, images)["conv"]
    assert known.best_bias(weight.reshape(5, -1)) == pytest.approx(bias, abs=0.02)
