"""Accuracy control over the parts of a model that writes: a planted bad layer, and switches against real quantized parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.accuracy_control.part_switch import PartSwitch, in_part, layers_by_part, readings
from compress.accuracy_control.shipped import given_back, has_dynamic_batch, read_given_back
from compress.generation.assembly import Assembly, PartCalibration, open_part
from compress.quantize.model import quantize_model
from export.model import OnnxModel
from targets.base import Arrays, Scheme
from targets.generation import Generation
from targets.generation.session import GenerationSession

WORDS, WIDTH = 11, 8
RNG = np.random.default_rng(0)
DYNAMIC = Scheme("int8-dynamic", "int8", "onnxruntime", mode="dynamic", reduce_range=True)
STATIC = Scheme("int8", "int8", "onnxruntime", reduce_range=True)
WRITES = Generation(end=1, padding=0, start=2, new_tokens=5)
PROMPTS = [
    {"input_ids": RNG.integers(3, WORDS, (1, length)), "attention_mask": np.ones((1, length), np.int64)}
    for length in (3, 4, 3, 5)
]


def parts(folder: Path) -> Assembly:
    """An encoder and a decoder of two products each; the cache and the source count by their means."""
    axes = {"one": np.array([1]), "last": np.array([2]), "around": np.array([1, 3])}
    encoder = [
        helper.make_node("Gather", ["table", "input_ids"], ["x"], name="embed"),
        helper.make_node("Tanh", ["x"], ["y"], name="tanh"),
        helper.make_node("MatMul", ["y", "in.weight"], ["a"], name="in"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("MatMul", ["b", "out.weight"], ["c"], name="out"),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT, name="cast"),
        helper.make_node("Unsqueeze", ["mask", "last"], ["tall"], name="tall"),
        helper.make_node("Mul", ["c", "tall"], ["kept"], name="mask"),
        helper.make_node("Unsqueeze", ["kept", "one"], ["cross_key.0"], name="head"),
    ]
    decoder = [
        helper.make_node("Gather", ["table", "input_ids"], ["x"], name="embed"),
        helper.make_node("Unsqueeze", ["x", "one"], ["row"], name="row"),
        helper.make_node("Concat", ["past_key.0", "row"], ["present_key.0"], name="cache", axis=2),
        helper.make_node("ReduceMean", ["present_key.0"], ["past"], name="past", axes=[1, 2], keepdims=0),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT, name="cast"),
        helper.make_node("Unsqueeze", ["mask", "around"], ["tall"], name="tall"),
        helper.make_node("Mul", ["cross_key.0", "tall"], ["kept"], name="mask"),
        helper.make_node("ReduceMean", ["kept"], ["source"], name="source", axes=[1, 2], keepdims=0),
        helper.make_node("Add", ["past", "source"], ["both"], name="both"),
        helper.make_node("Unsqueeze", ["both", "one"], ["context"], name="context"),
        helper.make_node("Add", ["x", "context"], ["sum"], name="sum"),
        helper.make_node("MatMul", ["sum", "in.weight"], ["a"], name="in"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("MatMul", ["b", "head.weight"], ["logits"], name="out"),
    ]
    ids = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])]
    mask = [helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "length"])]
    caches = {
        name: _cache(name, tokens)
        for name, tokens in (("past_key.0", "past"), ("cross_key.0", "length"), ("present_key.0", "all"))
    }
    answer = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "answer"])]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "answer", WORDS])
    made = {
        "encoder": _saved(encoder, ids + mask, [caches["cross_key.0"]], axes, folder / "encoder.onnx"),
        "decoder": _saved(
            decoder,
            [*answer, *mask, caches["past_key.0"], caches["cross_key.0"]],
            [logits, caches["present_key.0"]],
            axes,
            folder / "decoder.onnx",
        ),
    }
    return Assembly({name: made[name] for name in ("decoder", "encoder")}, WRITES)


def _constant(name: str, values: np.ndarray) -> onnx.TensorProto:
    return numpy_helper.from_array(values, name)


def _cache(name: str, tokens: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1, tokens, WIDTH])


def _saved(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    axes: dict[str, np.ndarray],
    path: Path,
) -> OnnxModel:
    shapes = {"table": (WORDS, WIDTH), "in.weight": (WIDTH, 16), "out.weight": (16, WIDTH), "head.weight": (16, WORDS)}
    read = {name for node in nodes for name in node.input}
    tensors = [
        _constant(name, RNG.normal(size=shape).astype(np.float32)) for name, shape in shapes.items() if name in read
    ]
    tensors += [_constant(name, values) for name, values in axes.items() if name in read]
    graph = helper.make_graph(nodes, "part", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return OnnxModel.read(path)


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    return parts(tmp_path_factory.mktemp("floats"))


@pytest.fixture(scope="module", params=[DYNAMIC, STATIC], ids=lambda scheme: scheme.name)
def quantized(request: pytest.FixtureRequest, floats: Assembly, tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    folder = tmp_path_factory.mktemp("quantized")
    found = {
        name: quantize_model(part, PartCalibration(floats, name, PROMPTS), request.param, folder / f"{name}.onnx")
        for name, part in floats.parts.items()
    }
    return Assembly(found, floats.generation)


def written(model: Assembly) -> list[np.ndarray]:
    session = GenerationSession(
        {name: open_part(part.path) for name, part in model.parts.items()}, model.decoder.inputs, WRITES
    )
    return [session.run(prompt)["tokens"] for prompt in PROMPTS]


def logits(model: Assembly, reading: Arrays) -> np.ndarray:
    """Of the parts called by hand: the decoder with what the encoder gives."""

    def session(name: str) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        return onnxruntime.InferenceSession(str(model.parts[name].path), options, providers=["CPUExecutionProvider"])

    def given(part: str) -> Arrays:
        return {name.partition("/")[2]: array for name, array in reading.items() if name.startswith(part + "/")}

    [cross] = session("encoder").run(["cross_key.0"], given("encoder"))
    [found] = session("decoder").run(["logits"], given("decoder") | {"cross_key.0": cross})
    return np.asarray(found)


def test_layers_go_by_the_part_that_they_are_in() -> None:
    assert in_part("decoder", "a/b") == "decoder/a/b" and in_part("", "a/b") == "a/b"
    assert layers_by_part(["decoder/a/b", "encoder/a", "decoder/c"]) == {"decoder": {"a/b", "c"}, "encoder": {"a"}}


def test_switched_parts_answer_as_the_models_they_stand_for(
    floats: Assembly, quantized: Assembly, tmp_path: Path
) -> None:
    """A table of tokens that is stored in 8 bits stays so: it is no layer."""
    switch = PartSwitch(quantized, floats, WRITES)
    assert set(switch.layers) >= {"decoder/in", "decoder/out", "encoder/in", "encoder/out"}
    whole = given_back(quantized, floats, switch.layers, tmp_path)
    assert isinstance(whole, Assembly)
    for reading in readings(floats, PROMPTS):
        for chosen, model in (((), whole), (switch.layers, quantized)):
            np.testing.assert_allclose(
                switch.outputs([reading], chosen)[0], logits(model, reading), rtol=1e-4, atol=1e-4
            )
        np.testing.assert_allclose(switch.outputs([reading], ())[0], logits(floats, reading), atol=0.5)
    for prompt, expected in zip(PROMPTS, written(whole), strict=True):
        np.testing.assert_array_equal(switch.answers(prompt, ()), expected)


def test_a_layer_of_the_encoder_counts_by_what_it_does_to_the_logits(floats: Assembly, quantized: Assembly) -> None:
    switch = PartSwitch(quantized, floats, WRITES)
    batches = list(readings(floats, PROMPTS))
    in_float = switch.outputs(batches, ())
    for layer in ("encoder/in", "encoder/out", "decoder/in", "decoder/out"):
        found = switch.outputs(batches, {layer})
        differences = [np.abs(one - other).max() for one, other in zip(found, in_float, strict=True)]
        assert 0 < max(differences) < 3, layer


def test_layers_given_back_are_float_in_their_part_alone(floats: Assembly, quantized: Assembly, tmp_path: Path) -> None:
    switch = PartSwitch(quantized, floats, WRITES)
    back = [layer for layer in switch.layers if layer != "decoder/out"]
    model = given_back(quantized, floats, back, tmp_path)
    assert isinstance(model, Assembly) and read_given_back(quantized, tmp_path) == model
    for reading in readings(floats, PROMPTS):
        np.testing.assert_allclose(
            switch.outputs([reading], {"decoder/out"})[0], logits(model, reading), rtol=1e-4, atol=1e-4
        )
    assert has_dynamic_batch(floats)


PLANTED = """

def planted():
    '''A hidden unit that is always 1,000 and is read by nobody: the float model does not see it, ranges of INT8 do.'''
    made = gpt(layers=1)
    with torch.no_grad():
        for block in made.model.model.transformer.h:
            block.mlp.c_fc.weight[:, 0] = 0.0
            block.mlp.c_fc.bias[0] = 1000.0
            block.mlp.c_proj.weight[0] = 0.0
    return made
"""

RECIPE = """\
name: planted
workload: writers.py:planted
steps:
  - quantize: {calibration_samples: 16, schemes: [int8], accuracy_control: true}
targets: [onnxruntime_mobile]
benchmark: {seconds: 0.1, processes: 1, half_width: 0.9, throughput: false}
budget: {metric_drop: 0.2}
"""


def test_the_planted_layer_of_a_decoder_goes_back_and_few_others(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed: pip install edge-compress[nlp]")
    import compress
    from tests.compress.tiny_writers import WORKLOAD

    (tmp_path / "writers.py").write_text(WORKLOAD + PLANTED)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    report = compress.run(tmp_path / "recipe.yaml", tmp_path / "run")
    tried = {row.scheme: row for row in report.rows if row.role == "tried"}
    original = report.rows[0].validation.value
    assert tried["int8"].validation.value > original + 0.2, "the plant must ruin static INT8"
    mixed = tried["int8-mixed"]
    assert mixed.status == "measured", mixed.reason
    assert mixed.validation.value <= original + 0.2
    assert mixed.given_back and all(layer.layer.startswith("decoder/") for layer in mixed.given_back)
    assert any("mlp.c_proj" in layer.module for layer in mixed.given_back)
    assert len(mixed.given_back) <= 6 and mixed.given_back[0].metric_change > 0
