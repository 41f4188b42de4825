"""Layers of real quantized models given back to float, by both quantizers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.accuracy_control import costliest_first
from compress.accuracy_control.give_back import give_back, quantized_nodes, weighted_nodes
from compress.accuracy_control.layer_names import module_names
from compress.accuracy_control.layer_switch import LayerSwitch
from compress.quantize.model import quantize_model
from export.model import OnnxModel
from targets.base import Arrays, Scheme

SCHEMES = [Scheme("int8", "int8", "onnxruntime", reduce_range=True), Scheme("int8", "int8", "nncf", reduce_range=True)]
RNG = np.random.default_rng(0)
INPUTS = [{"x": RNG.normal(size=(4, 3, 8, 8)).astype(np.float32)} for _ in range(4)]


def residual(path: Path) -> OnnxModel:
    """conv-relu, conv-add-relu, mean, reshape, linear: what quantizers drop, fuse and rename."""
    shapes = {"a.weight": (8, 3, 3, 3), "b.weight": (8, 8, 3, 3), "c.weight": (5, 8)}
    constants = {name: RNG.normal(size=shape, scale=0.3) for name, shape in shapes.items()}
    constants |= {"a.bias": RNG.normal(size=8), "b.bias": RNG.normal(size=8), "c.bias": RNG.normal(size=5)}
    tensors = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in constants.items()]
    tensors += [
        numpy_helper.from_array(np.array(values), name) for name, values in (("axes", [2, 3]), ("flat", [0, -1]))
    ]
    nodes = [
        helper.make_node("Conv", ["x", "a.weight", "a.bias"], ["conv_a"], name="a", pads=[1] * 4),
        helper.make_node("Relu", ["conv_a"], ["relu_a"], name="relu_a"),
        helper.make_node("Conv", ["relu_a", "b.weight", "b.bias"], ["conv_b"], name="b", pads=[1] * 4),
        helper.make_node("Add", ["conv_b", "relu_a"], ["sum"], name="add"),
        helper.make_node("Relu", ["sum"], ["relu_b"], name="relu_b"),
        helper.make_node("ReduceMean", ["relu_b", "axes"], ["mean"], name="mean", keepdims=1),
        helper.make_node("Reshape", ["mean", "flat"], ["vector"], name="reshape"),
        helper.make_node("Gemm", ["vector", "c.weight", "c.bias"], ["logits"], name="c", transB=1),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 5])]
    graph = helper.make_graph(nodes, "residual", inputs, outputs, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return OnnxModel.read(path)


@pytest.fixture(scope="module", params=SCHEMES, ids=lambda scheme: scheme.quantizer)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The quantized model and the float one."""
    if request.param.quantizer == "nncf":
        pytest.importorskip("nncf")
    folder = tmp_path_factory.mktemp("residual")
    model = residual(folder / "model.onnx")
    quantized = quantize_model(model, INPUTS, request.param, folder / "quantized.onnx")
    return quantized.proto(), model.proto()


def answers(model: onnx.ModelProto, inputs: Iterable[Arrays] = INPUTS) -> np.ndarray:
    """In float, with the rounding of Q/DQ; on one thread as a LayerSwitch, for a dynamic LSTM takes a range for each thread's part."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, each)[0] for each in inputs])


def test_the_weighted_nodes_are_listed(pair: tuple[onnx.ModelProto, onnx.ModelProto]) -> None:
    quantized, _ = pair
    assert weighted_nodes(quantized) == ("a", "b", "c")
    assert {"a", "b", "c", "add"} <= set(quantized_nodes(quantized))


def test_everything_given_back_is_the_float_model(pair: tuple[onnx.ModelProto, onnx.ModelProto]) -> None:
    quantized, original = pair
    returned = give_back(quantized, quantized_nodes(quantized), original)
    onnx.checker.check_model(returned)
    assert not [node for node in returned.graph.node if node.op_type.endswith("QuantizeLinear")]
    assert np.abs(answers(quantized) - answers(original)).max() > 1e-3
    np.testing.assert_allclose(answers(returned), answers(original), atol=1e-5)
    names = {tensor.name.removesuffix("_float") for tensor in returned.graph.initializer}
    assert names <= {tensor.name for tensor in original.graph.initializer}


def test_one_given_back_has_its_own_weights_and_the_others_keep_theirs(
    pair: tuple[onnx.ModelProto, onnx.ModelProto],
) -> None:
    quantized, original = pair
    returned = give_back(quantized, ["b"], original)
    onnx.checker.check_model(returned)
    node = next(node for node in returned.graph.node if node.name == "b")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in returned.graph.initializer}
    wanted = {tensor.name: numpy_helper.to_array(tensor) for tensor in original.graph.initializer}
    np.testing.assert_array_equal(constants[node.input[1]], wanted["b.weight"])
    np.testing.assert_array_equal(constants[node.input[2]], wanted["b.bias"])
    assert weighted_nodes(returned) == ("a", "c")
    count = Counter(node.op_type for node in quantized.graph.node)["DequantizeLinear"]
    assert Counter(node.op_type for node in returned.graph.node)["DequantizeLinear"] < count
    worse, better = (float(np.square(answers(each) - answers(original)).sum()) for each in (quantized, returned))
    assert better < worse


def test_a_relu_that_the_quantizer_dropped_is_there_again(pair: tuple[onnx.ModelProto, onnx.ModelProto]) -> None:
    quantized, original = pair
    returned = give_back(quantized, ["b"], original)
    reader = next(node for node in returned.graph.node if node.name == "b")
    maker = next(node for node in returned.graph.node if reader.input[0] in node.output)
    assert maker.op_type == "Relu"


def test_the_input_model_stays_as_it_is(pair: tuple[onnx.ModelProto, onnx.ModelProto]) -> None:
    quantized, original = pair
    before = quantized.SerializeToString()
    give_back(quantized, ["a"], original)
    assert quantized.SerializeToString() == before


def test_weights_that_are_not_the_float_model_s_stay_the_dequantized_ones(
    pair: tuple[onnx.ModelProto, onnx.ModelProto],
) -> None:
    """Layers equalized into each other: a has twice the weights, b half; the two belong together."""
    quantized, original = pair
    other = onnx.ModelProto()
    other.CopyFrom(original)
    for tensor in other.graph.initializer:
        if tensor.name == "b.weight":
            tensor.CopyFrom(numpy_helper.from_array(0.5 * numpy_helper.to_array(tensor), tensor.name))
    returned = give_back(quantized, ["b"], other)
    node = next(node for node in returned.graph.node if node.name == "b")
    found = next(numpy_helper.to_array(t) for t in returned.graph.initializer if t.name == node.input[1])
    wanted = next(numpy_helper.to_array(t) for t in original.graph.initializer if t.name == "b.weight")
    np.testing.assert_allclose(found, wanted, atol=0.02)


def test_an_unknown_node_is_named(pair: tuple[onnx.ModelProto, onnx.ModelProto]) -> None:
    with pytest.raises(ValueError, match="found nowhere, allowed: the quantized nodes a, "):
        give_back(pair[0], ["nowhere"], pair[1])


def test_switching_layers_gives_what_giving_back_gives(pair: tuple[onnx.ModelProto, onnx.ModelProto]) -> None:
    """Up to a rounding step here and there: sums in another order fall on the other side of a half."""
    quantized, original = pair
    switch = LayerSwitch(quantized, original)
    np.testing.assert_allclose(np.concatenate(switch.outputs(INPUTS, ())), answers(original), atol=1e-5)
    for kept in ({"a"}, {"b", "c"}, {"add"}, set(switch.layers)):
        back = [name for name in switch.layers if name not in kept]
        wanted = answers(give_back(quantized, back, original))
        noise = float(np.abs(wanted - answers(original)).mean())
        assert np.abs(np.concatenate(switch.outputs(INPUTS, kept)) - wanted).mean() <= 0.1 * noise, kept


def test_nodes_know_their_modules(pair: tuple[onnx.ModelProto, onnx.ModelProto]) -> None:
    assert module_names(pair[1]) == {"a": "a", "b": "b", "c": "c"}


def products(path: Path, embedded: bool) -> OnnxModel:
    """A MatMul, and a Gemm of the transposed weight behind a tanh; of an input, or of the sum of two embeddings."""
    weights = {"a.weight": (6, 8), "b.weight": (5, 8), "b.bias": (5,), "one": (9, 6), "two": (9, 6)}
    tensors = [
        numpy_helper.from_array(RNG.normal(size=shape).astype(np.float32), name) for name, shape in weights.items()
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "a.weight"], ["product"], name="a"),
        helper.make_node("Tanh", ["product"], ["bent"], name="tanh"),
        helper.make_node("Gemm", ["bent", "b.weight", "b.bias"], ["logits"], name="b", transB=1),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6])]
    if embedded:
        inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch"])]
        gathers = [
            helper.make_node("Gather", ["one", "ids"], ["first"], name="one"),
            helper.make_node("Gather", ["two", "ids"], ["second"], name="two"),
            helper.make_node("Add", ["first", "second"], ["x"], name="add"),
        ]
        nodes = [*gathers, *nodes]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 5])]
    graph = helper.make_graph(nodes, "products", inputs, outputs, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return OnnxModel.read(path)


@pytest.mark.parametrize("embedded", [False, True])
def test_products_of_a_dynamic_scheme_are_given_back_and_switched(embedded: bool, tmp_path: Path) -> None:
    original = products(tmp_path / "model.onnx", embedded)
    scheme = Scheme("int8-dynamic", "int8", "onnxruntime", mode="dynamic", reduce_range=True)
    quantized = quantize_model(original, [], scheme, tmp_path / "quantized.onnx").proto()
    inputs = [{"ids": np.arange(9)} if embedded else {"x": RNG.normal(size=(16, 6)).astype(np.float32)}]
    in_float, in_8_bits = answers(original.proto(), inputs), answers(quantized, inputs)
    switch = LayerSwitch(quantized, original.proto())
    assert switch.operators == {"a": "MatMul", "b": "Gemm"}
    for back in ([], ["a"], ["b"], ["a", "b"]):
        returned = give_back(quantized, back, original.proto())
        onnx.checker.check_model(returned)
        counts = Counter(node.op_type for node in returned.graph.node)
        assert (counts["MatMul"], counts["MatMulInteger"]) == (len(back), 2 - len(back))
        np.testing.assert_allclose(
            switch.outputs(inputs, {"a", "b"} - set(back))[0], answers(returned, inputs), atol=1e-6
        )
    if not embedded:  # embeddings stay in 8 bits
        np.testing.assert_allclose(answers(returned, inputs), in_float, atol=1e-5)
    assert np.abs(in_8_bits - in_float).max() > 1e-3
    one = answers(give_back(quantized, ["a"], original.proto()), inputs)
    assert 0 < np.square(one - in_float).mean() < np.square(in_8_bits - in_float).mean()


def recurrent(path: Path) -> OnnxModel:
    """A MatMul and a bidirectional LSTM that begins with zeros, whose outputs and last states are read: x (length, batch, 6)."""
    shapes = {"a.weight": (6, 8), "l.weight_ih_l0_onnx": (2, 20, 8), "l.weight_hh_l0_onnx": (2, 20, 5)}
    tensors = [
        numpy_helper.from_array(RNG.normal(size=shape, scale=0.4).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "a.weight"], ["product"], name="a"),
        helper.make_node(
            "LSTM",
            ["product", *list(shapes)[1:]],
            ["states", "", "cell"],
            name="l",
            hidden_size=5,
            direction="bidirectional",
        ),
        helper.make_node("ReduceMean", ["states"], ["mean"], name="mean", keepdims=0),
        helper.make_node("Add", ["mean", "cell"], ["logits"], name="add"),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["length", "batch", 6])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [2, "batch", 5])]
    graph = helper.make_graph(nodes, "recurrent", inputs, outputs, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return OnnxModel.read(path)


def test_a_recurrent_layer_of_a_dynamic_scheme_is_given_back_and_switched(tmp_path: Path) -> None:
    original = recurrent(tmp_path / "model.onnx")
    scheme = Scheme("int8-dynamic", "int8", "onnxruntime", mode="dynamic", reduce_range=True)
    quantized = quantize_model(original, [], scheme, tmp_path / "quantized.onnx").proto()
    inputs = [{"x": RNG.normal(size=(7, 3, 6)).astype(np.float32)}]
    in_float, in_8_bits = answers(original.proto(), inputs), answers(quantized, inputs)
    switch = LayerSwitch(quantized, original.proto())
    assert switch.operators == {"a": "MatMul", "l": "LSTM"}
    for back in ([], ["a"], ["l"], ["a", "l"]):
        returned = give_back(quantized, back, original.proto())
        kinds = {node.op_type for node in returned.graph.node}
        assert ("LSTM" in kinds, "DynamicQuantizeLSTM" in kinds) == ("l" in back, "l" not in back)
        np.testing.assert_allclose(
            switch.outputs(inputs, {"a", "l"} - set(back))[0], answers(returned, inputs), atol=1e-6
        )
    np.testing.assert_allclose(answers(returned, inputs), in_float, atol=1e-6)
    assert 1e-4 < np.abs(in_8_bits - in_float).max() < 0.1
    assert module_names(original.proto()) == {"a": "a", "l": "l"}


def test_layers_of_a_network_of_tokens_are_ranked_on_batches_of_other_lengths(tmp_path: Path) -> None:
    """By the noise of all tokens of all batches, summed by hand."""
    shapes = {"a": (6, 8), "b": (8, 4)}
    tensors = [
        numpy_helper.from_array(RNG.normal(size=shape).astype(np.float32), f"{n}.weight") for n, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "a.weight"], ["hidden"], name="a"),
        helper.make_node("MatMul", ["hidden", "b.weight"], ["logits"], name="b"),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "length", 6])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "length", 4])]
    graph = helper.make_graph(nodes, "tokens", inputs, outputs, tensors)
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    original = OnnxModel.read(path)
    scheme = Scheme("int8-dynamic", "int8", "onnxruntime", mode="dynamic", reduce_range=True)
    quantized = quantize_model(original, [], scheme, tmp_path / "quantized.onnx").proto()

    batches = [{"x": RNG.normal(size=shape).astype(np.float32)} for shape in ((3, 7, 6), (2, 4, 6))]
    found = costliest_first(LayerSwitch(quantized, original.proto()), batches)
    wanted = [answers(original.proto(), [each]) for each in batches]
    assert set(found) == {"a", "b"}
    for layer, others in (("a", ["b"]), ("b", ["a"])):
        alone = give_back(quantized, others, original.proto())
        noise = sum(np.square(answers(alone, [each]) - one).sum() for each, one in zip(batches, wanted, strict=True))
        signal = sum(np.square(one).sum() for one in wanted)
        assert found[layer] == pytest.approx(10 * np.log10(signal / noise), abs=0.01)
