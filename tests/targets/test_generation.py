"""The loop around a model's parts, against transformers' own `generate` on the same weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from compress.generation.assembly import open_part
from compress.generation.in_torch import TorchPart, specs_of
from compress.generation.transformers_parts import CausalLM, Seq2SeqLM, causal_parts, seq2seq_parts
from export.errors import InputError
from export.to_onnx import to_onnx
from targets import Engine
from targets.generation import Generation
from targets.generation.sampling import Pick
from targets.generation.session import GenerationSession, writing

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install edge-compress[nlp]"
)

WORDS, END, PADDING = 60, 2, 1
PROMPTS = np.array([[11, 7, 23, 5, 42], [3, 19, 8, 51, 30], [9, 9, 14, 27, 33]])


class Noting(TorchPart):
    """With the shapes of what it was given."""

    def __init__(self, part):
        super().__init__(part)
        self.calls = []

    def run(self, inputs):
        self.calls.append({name: array.shape for name, array in inputs.items()})
        return super().run(inputs)


def session(parts, **settings):
    generation = Generation(**{"end": END, "padding": PADDING, "new_tokens": 12} | settings)
    noting = {name: Noting(part) for name, part in parts.items()}
    return GenerationSession(noting, specs_of(parts["decoder"]), generation)


@pytest.fixture(scope="module")
def gpt():
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=WORDS, n_positions=64, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=END
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    return spread(model)


@pytest.fixture(scope="module")
def bart():
    torch.manual_seed(1)
    config = transformers.BartConfig(
        vocab_size=WORDS,
        d_model=16,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=64,
        pad_token_id=PADDING,
        eos_token_id=END,
        decoder_start_token_id=0,
        forced_eos_token_id=None,
    )
    return spread(transformers.BartForConditionalGeneration(config).eval())


@pytest.fixture(scope="module")
def t5():
    torch.manual_seed(2)
    config = transformers.T5Config(
        vocab_size=WORDS,
        d_model=16,
        d_kv=8,
        d_ff=16,
        num_layers=2,
        num_heads=2,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=12,
        pad_token_id=PADDING,
        eos_token_id=END,
        decoder_start_token_id=0,
    )
    return spread(transformers.T5ForConditionalGeneration(config).eval())


def spread(model):
    """Large weights: answers that differ from prompt to prompt, and that end now and then."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(12.0)
    return model


def answers_of_transformers(model, prompts, **settings):
    ids = torch.from_numpy(prompts)
    with torch.no_grad():
        found = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pad_token_id=PADDING,
            min_length=0,
            **{"max_new_tokens": 12, "do_sample": False, "num_beams": 1, "eos_token_id": END} | settings,
        ).numpy()
    start = 1 if model.config.is_encoder_decoder else prompts.shape[1]
    padded = np.full((len(found), 12), PADDING)
    padded[:, : found.shape[1] - start] = found[:, start:]
    return padded


def source(prompts=PROMPTS):
    return {"input_ids": prompts, "attention_mask": np.ones_like(prompts)}


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("length_penalty", [1.0, 0.0])
@pytest.mark.parametrize("end", [13, 20])
def test_a_decoder_writes_what_transformers_writes(gpt, beams, length_penalty, end):
    run = session(causal_parts(CausalLM(gpt)), beams=beams, length_penalty=length_penalty, end=end).run
    found = run({"input_ids": PROMPTS})["tokens"]
    settings = {"num_beams": beams, "length_penalty": length_penalty, "eos_token_id": end}
    np.testing.assert_array_equal(found, answers_of_transformers(gpt, PROMPTS, **settings))
    assert len({tuple(row) for row in found}) > 1
    assert 0 < (found == end).any(axis=1).sum() < len(found) or length_penalty == 0


@pytest.mark.parametrize("beams", [1, 4])
def test_attention_with_a_bias_by_distance_writes_what_transformers_writes(t5, beams):
    found = session(seq2seq_parts(Seq2SeqLM(t5)), start=0, beams=beams).run(source())["tokens"]
    np.testing.assert_array_equal(found, answers_of_transformers(t5, PROMPTS, num_beams=beams))
    assert len({tuple(row) for row in found}) > 1


def test_what_is_exported_of_attention_with_a_bias_writes_the_same(t5, tmp_path):
    parts = seq2seq_parts(Seq2SeqLM(t5))
    for name, part in parts.items():
        to_onnx(part.module, part.example_inputs, part.dynamic_axes, part.output_names, tmp_path / f"{name}.onnx")
    opened = {name: open_part(tmp_path / f"{name}.onnx") for name in parts}
    generation = Generation(end=END, padding=PADDING, start=0, new_tokens=12, beams=4)
    found = GenerationSession(opened, specs_of(parts["decoder"]), generation).run(source())["tokens"]
    np.testing.assert_array_equal(found, answers_of_transformers(t5, PROMPTS, num_beams=4))


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("end", [40, 53])
def test_an_encoder_decoder_writes_what_transformers_writes(bart, beams, end):
    found = session(seq2seq_parts(Seq2SeqLM(bart)), start=0, beams=beams, end=end).run(source())["tokens"]
    np.testing.assert_array_equal(found, answers_of_transformers(bart, PROMPTS, num_beams=beams, eos_token_id=end))
    assert len({tuple(row) for row in found}) > 1
    assert 0 < (found == end).any(axis=1).sum() < len(found)


def test_padding_in_front_of_a_prompt_changes_nothing(gpt):
    run = session(causal_parts(CausalLM(gpt))).run
    alone = run({"input_ids": PROMPTS[:1, 2:]})["tokens"]
    padded = PROMPTS.copy()
    padded[0, :2] = PADDING
    together = run({"input_ids": padded, "padding": np.array([2, 0, 0])})["tokens"]
    np.testing.assert_array_equal(together[:1], alone)
    np.testing.assert_array_equal(together[1:], run({"input_ids": PROMPTS[1:]})["tokens"])


def test_padding_behind_a_source_changes_nothing(bart):
    run = session(seq2seq_parts(Seq2SeqLM(bart)), start=0, beams=4).run
    alone = run(source(PROMPTS[:1, :3]))["tokens"]
    padded = source()
    padded["attention_mask"] = padded["attention_mask"].copy()
    padded["attention_mask"][0, 3:] = 0
    np.testing.assert_array_equal(run(padded)["tokens"][:1], alone)


def test_each_token_costs_one_step_of_one_token(gpt):
    made = session(causal_parts(CausalLM(gpt)), stops=False)
    made.run({"input_ids": PROMPTS})
    calls = made._sessions["decoder"].calls
    assert [call["input_ids"] for call in calls] == [(3, 5)] + [(3, 1)] * 11
    assert [call["past_key.0"] for call in calls] == [(3, 2, past, 8) for past in [0, *range(5, 16)]]


def test_an_encoder_runs_once_and_every_step_has_the_rows_of_all_beams(bart):
    made = session(seq2seq_parts(Seq2SeqLM(bart)), start=0, beams=4, stops=False)
    made.run(source())
    assert len(made._sessions["encoder"].calls) == 1
    assert [call["input_ids"] for call in made._sessions["decoder"].calls] == [(12, 1)] * 12


def test_what_does_not_stop_writes_all_tokens_and_what_stops_is_padded(gpt):
    parts, end = causal_parts(CausalLM(gpt)), 13
    ended = session(parts, end=end).run({"input_ids": PROMPTS})["tokens"]
    through = session(parts, end=end, stops=False).run({"input_ids": PROMPTS})["tokens"]
    assert (ended == end).any()
    for row, whole in zip(ended, through, strict=True):
        length = int(np.argmax(row == end)) + 1 if (row == end).any() else 12
        np.testing.assert_array_equal(row[:length], whole[:length])
        assert (row[length:] == PADDING).all()


def test_scores_are_the_logits_of_the_plain_model(gpt, bart):
    with torch.no_grad():
        expected = gpt(input_ids=torch.from_numpy(PROMPTS)).logits.numpy()
        after = bart(
            input_ids=torch.from_numpy(PROMPTS), decoder_input_ids=torch.from_numpy(PROMPTS[:, :3])
        ).logits.numpy()
    found = session(causal_parts(CausalLM(gpt)), mode="score").run({"input_ids": PROMPTS})["logits"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    of_bart = session(seq2seq_parts(Seq2SeqLM(bart)), start=0, mode="score")
    found = of_bart.run({**source(), "decoder_input_ids": PROMPTS[:, :3]})["logits"]
    np.testing.assert_allclose(found, after, rtol=1e-4, atol=1e-4)


def test_steps_are_the_plain_model_s_logits_before_each_token_of_an_answer(gpt, bart):
    answer = np.array([[5, 9, 12, 30]] * 3)
    whole = np.concatenate([PROMPTS, answer], axis=1)
    with torch.no_grad():
        expected = gpt(input_ids=torch.from_numpy(whole)).logits.numpy()[:, 4:-1]
        given = torch.from_numpy(np.concatenate([np.zeros((3, 1), dtype=int), answer[:, :-1]], axis=1))
        after = bart(input_ids=torch.from_numpy(PROMPTS), decoder_input_ids=given).logits.numpy()
    found = session(causal_parts(CausalLM(gpt))).steps({"input_ids": PROMPTS}, answer)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    found = session(seq2seq_parts(Seq2SeqLM(bart)), start=0).steps(source(), answer)
    np.testing.assert_allclose(found, after, rtol=1e-4, atol=1e-4)


def test_the_wrapped_models_answer_as_transformers_does(gpt, bart):
    ids = torch.from_numpy(PROMPTS)
    with torch.no_grad():
        torch.testing.assert_close(CausalLM(gpt)(ids), gpt(input_ids=ids).logits)
        mask = torch.ones_like(ids)
        mask[1, 3:] = 0
        expected = bart(input_ids=ids, attention_mask=mask, decoder_input_ids=ids).logits
        torch.testing.assert_close(Seq2SeqLM(bart)(ids, mask, ids), expected, rtol=1e-4, atol=1e-4)


def test_draws_follow_the_softmax_and_top_k_leaves_out_the_rest():
    logits = np.log(np.array([[0.5, 0.3, 0.15, 0.05]]))
    pick = Pick(temperature=1.0, top_k=0, seed=0)
    shares = np.bincount([int(pick(logits)[0]) for _ in range(4000)], minlength=4) / 4000
    # Four standard deviations of a share of 0.5 over 4,000 draws are 0.032.
    np.testing.assert_allclose(shares, [0.5, 0.3, 0.15, 0.05], atol=0.032)
    pick = Pick(temperature=1.0, top_k=2, seed=0)
    assert {int(pick(logits)[0]) for _ in range(200)} == {0, 1}
    cold = Pick(temperature=0.05, top_k=0, seed=0)
    assert {int(cold(logits)[0]) for _ in range(50)} == {0}


def test_a_sampled_answer_does_not_depend_on_the_prompts_beside_it(gpt):
    run = session(causal_parts(CausalLM(gpt)), temperature=1.0, seed=3).run
    together = run({"input_ids": PROMPTS})["tokens"]
    np.testing.assert_array_equal(run({"input_ids": PROMPTS[1:2]})["tokens"], together[1:2])
    greedy = session(causal_parts(CausalLM(gpt))).run({"input_ids": PROMPTS})["tokens"]
    assert (together != greedy).any()


def test_settings_are_checked_and_survive_json():
    with pytest.raises(ValueError, match="new_tokens and beams: found 0 and 1, allowed: 1 or more"):
        Generation(end=0, padding=0, new_tokens=0)
    with pytest.raises(ValueError, match="temperature: found 1 with 4 beams, allowed: with one beam"):
        Generation(end=0, padding=0, beams=4, temperature=1.0)
    generation = Generation(end=3, padding=1, start=2, beams=4, length_penalty=0.6)
    assert Generation.from_json(json.loads(json.dumps(generation.to_json()))) == generation


def test_an_engine_of_parts_survives_json_and_changes_how_it_answers(tmp_path):
    def engine(name, **fields):
        path = tmp_path / name
        path.write_bytes(b"12345")
        return Engine("openvino", "int8", path, (path,), (), (), build_s=0.5, **fields)

    parts = {"encoder": engine("encoder"), "decoder": engine("decoder")}
    whole = Engine(
        "openvino",
        "int8",
        parts["decoder"].path,
        tuple(part.path for part in parts.values()),
        (),
        (),
        build_s=1.0,
        parts=parts,
        generation=Generation(end=0, padding=0),
    )
    read = Engine.from_json(json.loads(json.dumps(whole.to_json(tmp_path))), tmp_path)
    assert read == whole
    assert read.size_bytes == 10
    assert writing(read, new_tokens=1, stops=False).generation == Generation(
        end=0, padding=0, new_tokens=1, stops=False
    )
    assert Path(whole.to_json(tmp_path)["parts"]["encoder"]["path"]) == Path("encoder")


def test_inputs_without_tokens_are_refused(gpt):
    with pytest.raises(InputError, match="generation: found inputs image; needs input_ids"):
        session(causal_parts(CausalLM(gpt))).run({"image": PROMPTS})
