"""Decoders that keep their cache inside OpenVINO, against the same parts in torch, token by token."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("openvino", reason="openvino is not installed: pip install edge-compress[openvino]")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install edge-compress[nlp]"
)

from benchmarks.profile import profile_of  # noqa: E402
from compress.generation.assembly import Assembly, joined  # noqa: E402
from compress.generation.in_torch import TorchPart, specs_of  # noqa: E402
from compress.generation.transformers_parts import CausalLM, Seq2SeqLM, causal_parts, seq2seq_parts  # noqa: E402
from compress.profile_inputs import calls_of  # noqa: E402
from compress.quantize.model import quantize_model  # noqa: E402
from export.errors import UnsupportedError  # noqa: E402
from export.model import OnnxModel  # noqa: E402
from export.to_onnx import to_onnx  # noqa: E402
from targets import FP32, load  # noqa: E402
from targets.generation import Generation  # noqa: E402
from targets.generation.cached_attention import cached_attention, keeps_cache  # noqa: E402
from targets.generation.session import GenerationSession, writing  # noqa: E402
from targets.onnxruntime_mobile import OnnxRuntimeMobile  # noqa: E402
from targets.openvino import OpenVino  # noqa: E402
from targets.openvino.profile import layer_times, median_behind_s  # noqa: E402
from targets.openvino.session import OpenVinoSession, open_engine, properties  # noqa: E402
from tests.targets.test_generation import END, PADDING, PROMPTS, WORDS, source, spread  # noqa: E402

GENERATION = Generation(end=END, padding=PADDING, start=0, new_tokens=12)
SOURCE = source()
SOURCE["attention_mask"] = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])


@pytest.fixture(scope="module")
def gpt():
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=WORDS, n_positions=64, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=END
    )
    return causal_parts(CausalLM(spread(transformers.GPT2LMHeadModel(config).eval())))


@pytest.fixture(scope="module")
def bart():
    torch.manual_seed(1)
    config = transformers.BartConfig(
        vocab_size=WORDS, d_model=16, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=64,
        pad_token_id=PADDING, eos_token_id=END, decoder_start_token_id=0, forced_eos_token_id=None,
    )  # fmt: skip
    return seq2seq_parts(Seq2SeqLM(spread(transformers.BartForConditionalGeneration(config).eval())))


def exported(parts, folder):
    return {
        name: to_onnx(
            part.module, part.example_inputs, part.dynamic_axes, part.output_names, folder / f"{name}.onnx"
        )
        for name, part in parts.items()
    }  # fmt: skip


def compiled(models, folder, scheme=FP32, target=None):
    engines = {}
    for name, model in models.items():
        (folder / scheme.name / name).mkdir(parents=True)
        engines[name] = (target or OpenVino()).compile(model, scheme, folder / scheme.name / name)
    return joined("openvino", scheme.name, engines, Assembly(models, GENERATION))


@pytest.fixture(scope="module")
def gpt_models(gpt, tmp_path_factory):
    return exported(gpt, tmp_path_factory.mktemp("gpt"))


@pytest.fixture(scope="module")
def gpt_engine(gpt_models, tmp_path_factory):
    return compiled(gpt_models, tmp_path_factory.mktemp("gpt"))


@pytest.fixture(scope="module")
def bart_engine(bart, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bart")
    return compiled(exported(bart, folder), folder)


def in_torch(parts, **changes):
    sessions = {name: TorchPart(part) for name, part in parts.items()}
    return GenerationSession(sessions, specs_of(parts["decoder"]), replace(GENERATION, **changes))


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("end", [13, 20])
def test_a_decoder_writes_what_torch_writes(gpt, gpt_engine, beams, end):
    padded = {"input_ids": PROMPTS, "padding": np.array([2, 0, 1])}
    with load(OpenVino(), writing(gpt_engine, beams=beams, end=end), 1) as session:
        for inputs in ({"input_ids": PROMPTS}, padded, {"input_ids": PROMPTS[:1, :2]}):
            expected = in_torch(gpt, beams=beams, end=end).run(inputs)["tokens"]
            np.testing.assert_array_equal(session.run(inputs)["tokens"], expected)


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("end", [40, 53])
def test_an_encoder_decoder_writes_what_torch_writes(bart, bart_engine, beams, end):
    with load(OpenVino(), writing(bart_engine, beams=beams, end=end), 1) as session:
        for inputs in (SOURCE, {name: array[1:2] for name, array in SOURCE.items()}):
            expected = in_torch(bart, beams=beams, end=end).run(inputs)["tokens"]
            np.testing.assert_array_equal(session.run(inputs)["tokens"], expected)


def test_scores_are_those_of_torch(gpt, gpt_engine, bart, bart_engine):
    answers = {**SOURCE, "decoder_input_ids": PROMPTS[:, :3]}
    for parts, engine, inputs in ((gpt, gpt_engine, {"input_ids": PROMPTS}), (bart, bart_engine, answers)):
        expected = in_torch(parts, mode="score").run(inputs)["logits"]
        with load(OpenVino(), writing(engine, mode="score"), 1) as session:
            for _ in range(2):  # the second time nothing of the first is left
                np.testing.assert_allclose(session.run(inputs)["logits"], expected, rtol=1e-3, atol=1e-3)


def test_the_caches_of_self_attention_are_states_and_attention_is_fused_with_them(gpt_engine, bart_engine):
    for engine, constant in ((gpt_engine, ["padding", "wanted"]), (bart_engine, ["attention_mask", *CROSS])):
        decoder = engine.parts["decoder"]
        assert sorted(spec.name for spec in decoder.inputs) == sorted(["input_ids", "beam_idx", *constant])
        assert [spec.name for spec in decoder.outputs] == ["logits"]
        network = open_engine(decoder, properties(decoder.settings, 1))
        assert network.get_property("KV_CACHE_PRECISION").get_type_name() == "f32"
        operators = [node.get_rt_info()["layerType"].value for node in network.get_runtime_model().get_ops()]
        assert operators.count("MemoryInput") == 4
        assert operators.count("ScaledDotProductAttention") >= 2
        # Nothing but what the fused operators read holds the whole cache: no copy of it is made in a Concatenation.
        assert _runtime_names(network, "Concatenation").isdisjoint({"present_key.0", "present_value.1"})


CROSS = [f"cross_{kind}.{layer}" for kind in ("key", "value") for layer in (0, 1)]


def _runtime_names(network, kind):
    nodes = network.get_runtime_model().get_ops()
    return {node.friendly_name for node in nodes if node.get_rt_info()["layerType"].value == kind}


@pytest.mark.parametrize("heads", [(1, 3), (2, 2)])
def test_layers_may_have_other_heads(heads, tmp_path):
    """As pruning leaves them: each layer's cache is read past its own number of heads."""
    model = hand_made(heads, tmp_path / "decoder.onnx")
    assert len(cached_attention(model.proto().graph)) == 2
    engine = compiled({"decoder": model}, tmp_path)
    with load(OpenVino(), writing(engine, mode="score"), 1) as session:
        found = session.run({"input_ids": PROMPTS})["logits"]
    np.testing.assert_allclose(found, by_hand(model, PROMPTS), rtol=1e-4, atol=1e-4)


def hand_made(heads, path):
    """Two layers of nothing but attention over a cache, width 4: what each layer gives is added to its input."""
    random, nodes, weights = np.random.default_rng(0), [], {"one": np.array([1, 2, 3])}
    weights["words"] = random.normal(size=(WORDS, 8))
    nodes.append(helper.make_node("Gather", ["words", "input_ids"], ["hidden0"]))
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "length", 8])]
    weights["mask"], weights["scale"] = np.zeros((1, 1, 1, 1)), np.array(0.5)
    for layer, count in enumerate(heads):
        weights[f"shape{layer}"] = np.array([0, 0, count, 4])
        for kind in ("query", "key", "value"):
            name = f"{kind}{layer}"
            weights[f"{name}.weight"] = random.normal(size=(8, 4 * count)) / 4
            nodes.append(helper.make_node("MatMul", [f"hidden{layer}", f"{name}.weight"], [f"{name}.flat"]))
            nodes.append(helper.make_node("Reshape", [f"{name}.flat", f"shape{layer}"], [f"{name}.split"]))
            nodes.append(helper.make_node("Transpose", [f"{name}.split"], [name], perm=[0, 2, 1, 3]))
        for kind in ("key", "value"):
            past, present = f"past_{kind}.{layer}", f"present_{kind}.{layer}"
            nodes.append(helper.make_node("Concat", [past, f"{kind}{layer}"], [present], axis=2))
            inputs.append(helper.make_tensor_value_info(past, TensorProto.FLOAT, ["batch", count, "past", 4]))
            outputs.append(helper.make_tensor_value_info(present, TensorProto.FLOAT, ["batch", count, "all", 4]))
        weights[f"out{layer}"], weights[f"flat{layer}"] = (
            random.normal(size=(4 * count, 8)),
            np.array([0, 0, 4 * count]),
        )
        nodes += [
            helper.make_node("Transpose", [f"present_key.{layer}"], [f"keys{layer}"], perm=[0, 1, 3, 2]),
            helper.make_node("MatMul", [f"query{layer}", f"keys{layer}"], [f"products{layer}"]),
            helper.make_node("Mul", [f"products{layer}", "scale"], [f"scores{layer}"]),
            helper.make_node("Add", ["mask", f"scores{layer}"], [f"masked{layer}"]),
            helper.make_node("Softmax", [f"masked{layer}"], [f"shares{layer}"], axis=-1),
            helper.make_node("MatMul", [f"shares{layer}", f"present_value.{layer}"], [f"mixed{layer}"]),
            helper.make_node("Transpose", [f"mixed{layer}"], [f"beside{layer}"], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", [f"beside{layer}", f"flat{layer}"], [f"joined{layer}"]),
            helper.make_node("MatMul", [f"joined{layer}", f"out{layer}"], [f"given{layer}"]),
            helper.make_node(
                "Add", [f"hidden{layer}", f"given{layer}"], ["logits" if layer == 1 else f"hidden{layer + 1}"]
            ),
        ]
    tensors = [
        numpy_helper.from_array(array if array.dtype == np.int64 else array.astype(np.float32), name)
        for name, array in weights.items()
    ]
    graph = helper.make_graph(nodes, "decoder", inputs, outputs, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return OnnxModel.read(path)


def by_hand(model, tokens):
    """The same in numpy, without a cache."""
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.proto().graph.initializer}
    hidden = weights["words"][tokens]
    for layer in (0, 1):
        query, key, value = (hidden @ weights[f"{kind}{layer}.weight"] for kind in ("query", "key", "value"))
        mixed = []
        for start in range(0, query.shape[-1], 4):
            head = slice(start, start + 4)
            products = 0.5 * query[..., head] @ key[..., head].swapaxes(1, 2)
            scores = np.exp(products - products.max(axis=-1, keepdims=True))
            mixed.append(scores / scores.sum(axis=-1, keepdims=True) @ value[..., head])
        hidden = hidden + np.concatenate(mixed, axis=-1) @ weights[f"out{layer}"]
    return hidden


@pytest.mark.parametrize("name", ["int8", "int8-nncf", "int8-weights"])
def test_a_quantized_decoder_keeps_its_cache_too(gpt, gpt_models, tmp_path, name):
    scheme = next(each for each in OpenVino().schemes() if each.name == name)
    model = gpt_models["decoder"]
    batch = {"input_ids": PROMPTS, "padding": np.zeros(3, dtype=np.int64), "wanted": np.zeros_like(PROMPTS)}
    past = np.random.default_rng(0).normal(size=(3, 2, 4, 8)).astype(np.float32)
    given = {spec.name: past if spec.name.startswith("past_") else batch[spec.name] for spec in model.inputs}
    quantized = quantize_model(model, [given], scheme, tmp_path / "quantized.onnx")
    assert len(cached_attention(quantized.proto().graph)) == 2
    engine = compiled({"decoder": quantized}, tmp_path, scheme)
    decoder = engine.parts["decoder"]
    network = open_engine(decoder, properties(decoder.settings, 1))
    assert len(_runtime_names(network, "ScaledDotProductAttention")) == 2
    expected = in_torch(gpt, mode="score").run({"input_ids": PROMPTS})["logits"]
    with load(OpenVino(), writing(engine, mode="score"), 1) as session:
        found = session.run({"input_ids": PROMPTS})["logits"]
    # 8 bits cost this random model with weights of 12 times the usual size much; answers of another place correlate at 0.
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9
    with load(OpenVino(), writing(engine, beams=4, stops=False), 1) as session:
        assert session.run({"input_ids": PROMPTS})["tokens"].shape == (3, 12)


def test_a_decoder_is_offered_weights_alone(gpt_models):
    model = gpt_models["decoder"]
    for target in (OpenVino(), OnnxRuntimeMobile()):
        assert {"int8-weights", "int4-weights"} <= {scheme.name for scheme in target.schemes(model)}
        plain = replace(model, inputs=model.inputs[:1])
        assert not any(scheme.mode == "weights" for scheme in target.schemes(plain))


def test_logits_are_given_of_the_tokens_that_are_asked_for(gpt, gpt_engine):
    decoder = gpt_engine.parts["decoder"]
    every = in_torch(gpt, mode="score").run({"input_ids": PROMPTS})["logits"]
    given = {"input_ids": PROMPTS, "padding": np.zeros(3, dtype=np.int64), "beam_idx": np.arange(3, dtype=np.int32)}
    with OpenVino().load(decoder, 1) as session:
        for kept in (1, 3):
            session.forget()
            found = session.run({**given, "wanted": np.zeros((3, kept), dtype=np.int64)})["logits"]
            assert found.shape == (3, kept, WORDS)
            np.testing.assert_allclose(found, every[:, -kept:], rtol=1e-3, atol=1e-3)


class Watched:
    """Another's infer request or compiled model; notes how many tokens the cache holds before each inference."""

    def __init__(self, inner, seen):
        self.inner, self.seen = inner, seen

    def infer(self, *given, **settings):
        lengths = {tuple(state.state.shape)[2] for state in self.inner.query_state()}
        self.seen.append(lengths.pop())
        assert not lengths
        return self.inner.infer(*given, **settings)

    def create_infer_request(self):
        return Watched(self.inner.create_infer_request(), self.seen)

    def output(self, name):
        return self.inner.output(name)

    def __getattr__(self, name):
        return getattr(self.inner, name)


def test_a_step_is_profiled_with_the_cache_that_is_told(gpt_engine):
    """30 runs: 7 measured calls behind each filling, the fourth of which has the 20 tokens, that is 17 to 23 of them."""
    reads, step = calls_of(gpt_engine, 2, {"length": 14, "tokens": 12})
    assert (reads.past, step.past, step.words) == (0, 20, "one step after 20 tokens")
    decoder = gpt_engine.parts["decoder"]
    network = open_engine(decoder, {**properties(decoder.settings, 1), "PERF_COUNT": True})
    called, counted = [], []
    assert median_behind_s(OpenVinoSession(Watched(network, called), decoder), step.inputs, 30, step.past) > 0
    layers = layer_times(lambda: Watched(network, counted), step.inputs, 30, step.past)
    # Emptied, filled at once, then a token longer each time: one unmeasured call, and two with the counters.
    assert called == [0, *range(16, 24)] * 6
    assert counted == [0, *range(15, 24)] * 4
    assert "ScaledDotProductAttention" in {layer.operator for layer in layers}
    called.clear()
    counted.clear()
    assert median_behind_s(OpenVinoSession(Watched(network, called), decoder), reads.inputs, 7, reads.past) > 0
    layer_times(lambda: Watched(network, counted), reads.inputs, 7, reads.past)
    assert set(called) == set(counted) == {0}


def test_a_worker_profiles_it_so(gpt_engine):
    _, step = calls_of(gpt_engine, 1, {"length": 14, "tokens": 12})
    profile = profile_of(gpt_engine.parts["decoder"], step.inputs, threads=1, runs=8, past=step.past)
    assert profile.call_s > 0
    assert "ScaledDotProductAttention" in {layer.operator for layer in profile.layers}


def test_caches_of_another_layout_stay_outside(gpt_models):
    model = gpt_models["decoder"]
    assert keeps_cache(model)
    first, *others = [spec for spec in model.inputs if spec.name.startswith("past_")]
    rest = [spec for spec in model.inputs if not spec.name.startswith("past_")]
    turned = replace(first, shape=("batch", "past", 2, 8))
    assert not keeps_cache(replace(model, inputs=(*rest, turned, *others)))
    assert not keeps_cache(replace(model, inputs=tuple(rest)))
    assert not keeps_cache(replace(model, outputs=model.outputs[:-1]))


def test_shapes_of_a_decoder_cannot_be_fixed(gpt_models, tmp_path):
    with pytest.raises(
        UnsupportedError, match="shapes fixes length of a decoder, whose lengths change from call to call"
    ):
        compiled(gpt_models, tmp_path, target=OpenVino(shapes={"length": 64, "other": 3}))
