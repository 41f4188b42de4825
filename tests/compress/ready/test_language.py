"""huggingface for tags, running text, and pairs of texts."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    BertForTokenClassification,
    GPT2LMHeadModel,
)

from benchmarks.metrics import BLEU, IGNORED, EntityF1, TokenAccuracy
from benchmarks.preprocessing import TextPreprocessing
from compress.evaluate import evaluate
from compress.generation.in_torch import evaluate_written
from compress.preflight import check
from compress.ready.conll import read_conll, tags_of
from compress.ready.language_model import MaskedBatches
from compress.ready.plain_text import ShiftedWindows
from export.errors import InputError
from tests.compress.ready.folders import LETTERS, SIZES, classifier, gpt, letters, load, running_text, save

TAGS = {0: "O", 1: "B-FILM", 2: "I-FILM"}


def bart(folder: Path) -> Path:
    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=13, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=32, pad_token_id=0, eos_token_id=1, bos_token_id=2,
        decoder_start_token_id=2, forced_eos_token_id=None,
    )  # fmt: skip
    return save(BartForConditionalGeneration(config), folder, letters())


def test_a_causal_model_is_judged_by_the_perplexity_of_what_follows(tmp_path: Path) -> None:
    gpt(tmp_path / "gpt")
    running_text(tmp_path / "book.txt", 800)
    workload = load(tmp_path, "huggingface: {path: gpt, data: book.txt, max_length: 16, batch_size: 8, new_tokens: 6}")
    assert workload.notes == ("book.txt: the last 10% of the training text is held out for validation and evaluation",)
    assert workload.writing is not None
    assert (workload.writing.generation.end, workload.writing.generation.padding) == (1, 0)
    assert workload.writing.generation.new_tokens == 6
    assert workload.preprocessing == TextPreprocessing(str(tmp_path / "gpt" / "tokenizer.json"), mask=None, longest=16)
    assert isinstance(workload.train, ShiftedWindows)
    for inputs, target in workload.train:
        assert torch.equal(inputs["input_ids"][:, 1:], target[:, :-1])
    reference, loss, count = GPT2LMHeadModel.from_pretrained(tmp_path / "gpt").eval(), 0.0, 0
    for inputs, target in workload.evaluation:
        with torch.no_grad():
            logits = reference(inputs["input_ids"]).logits.flatten(0, 1)
        loss += float(torch.nn.functional.cross_entropy(logits, target.flatten(), reduction="sum"))
        count += target.numel()
    found = workload.metric.value(evaluate(workload.model, workload.evaluation, workload.metric))
    assert found == pytest.approx(math.exp(loss / count), rel=1e-5)


def test_a_masked_model_is_asked_for_the_same_tokens_at_every_evaluation(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save(BertForMaskedLM(BertConfig(**SIZES)), tmp_path / "bert")
    for name, lines in (("train", 400), ("test", 60)):
        (tmp_path / "texts").mkdir(exist_ok=True)
        (tmp_path / "texts" / f"{name}.txt").write_text("the film is good\n a play was bad very very\n" * lines)
    workload = load(tmp_path, "huggingface: {path: bert, data: texts, max_length: 20, batch_size: 16}")
    assert isinstance(workload.evaluation, MaskedBatches)
    assert "the last 5% of the training text is held out for validation" in workload.notes[0]
    first, again = (list(workload.evaluation) for _ in range(2))
    assert all(torch.equal(one[0]["input_ids"], other[0]["input_ids"]) for one, other in zip(first, again, strict=True))
    trained = [next(iter(workload.train)) for _ in range(2)]
    assert not torch.equal(trained[0][1], trained[1][1])
    ids = torch.cat([inputs["input_ids"] for inputs, _ in first])
    target = torch.cat([target for _, target in first])
    asked = target != IGNORED
    assert torch.equal(ids[~asked], workload.evaluation.windows[~asked])
    assert torch.equal(target[asked], workload.evaluation.windows[asked])
    assert 0.11 < asked[:, 1:-1].float().mean() < 0.19
    assert 0.7 < (ids[asked] == 4).float().mean() < 0.9
    assert not asked[:, 0].any()
    assert not asked[:, -1].any()  # [CLS] and [SEP]
    assert bool((ids[:, 0] == 2).all())
    assert bool((ids[:, -1] == 3).all())


CONLL = """-DOCSTART- -X- O

the DT O
good JJ B-FILM
film NN I-FILM
was VB O
films NN B-FILM

play NN B-FILM
is VB O

"""


def test_words_are_asked_for_at_their_first_piece(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save(BertForTokenClassification(BertConfig(**SIZES, id2label=TAGS)), tmp_path / "bert")
    (tmp_path / "tags").mkdir()
    for name, opening in (("train", "very O\n"), ("dev", "bad O\n"), ("test", "dull O\n")):
        (tmp_path / "tags" / f"{name}.conll").write_text(opening + CONLL.partition("\n\n")[2])
    workload = load(tmp_path, "huggingface: {path: bert, data: tags, max_length: 16, batch_size: 2}")
    assert workload.metric == EntityF1(tuple(TAGS.values()))
    rows = {len(row): row for _, target in workload.evaluation for row in target.tolist()}
    # [CLS] dull the good film was film ##s [SEP]
    assert rows[9] == [IGNORED, 0, 0, 1, 2, 0, 1, IGNORED, IGNORED]


def test_tags_that_are_no_entities_are_judged_word_by_word(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save(BertForTokenClassification(BertConfig(**SIZES, id2label={0: "DT", 1: "NN"})), tmp_path / "bert")
    rows = "".join(
        f"the DT\n{'very DT' if number % 2 else 'film NN'}\nplay NN\n" + "a DT\n" * number + "\n"
        for number in range(30)
    )
    (tmp_path / "tags.conll").write_text(rows)
    workload = load(tmp_path, "huggingface: {path: bert, data: tags.conll, max_length: 36}")
    assert workload.metric == TokenAccuracy()


def test_conll_is_read_with_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text(CONLL)
    first, second = read_conll(path)
    assert (first.words, first.line) == (("the", "good", "film", "was", "films"), 3)
    assert (second.words, second.tags, second.line) == (("play", "is"), ("B-FILM", "O"), 9)
    assert tags_of([first, second]) == ("O", "B-FILM", "I-FILM")


def pairs(path: Path, samples: int, first: int = 0) -> None:
    rows = [
        f"{LETTERS[n % 8]}{LETTERS[n // 8 % 8]}{'a' * (n % 3)}\t{LETTERS[n // 8 % 8]}{LETTERS[n % 8]}"
        for n in range(first, first + samples)
    ]
    path.write_text("\n".join(["source\tanswer", *rows]) + "\n")


def test_an_encoder_decoder_is_judged_by_the_text_it_writes(tmp_path: Path) -> None:
    bart(tmp_path / "bart")
    (tmp_path / "pairs").mkdir()
    for name, samples, first in (("train", 40, 0), ("dev", 8, 40), ("test", 12, 48)):
        pairs(tmp_path / "pairs" / f"{name}.tsv", samples, first)
    workload = load(tmp_path, "huggingface: {path: bart, data: pairs, max_length: 16, beams: 2, new_tokens: 5}")
    inputs, target = next(iter(workload.evaluation))
    assert list(inputs) == ["input_ids", "attention_mask", "decoder_input_ids"]
    assert inputs["decoder_input_ids"][:, 0].tolist() == [2] * 12
    assert torch.equal(inputs["decoder_input_ids"][:, 1:], target[:, :-1])
    assert target[:, -1].tolist() == [1] * 12
    assert workload.writing is not None
    assert isinstance(workload.writing.metric, BLEU)
    assert len(workload.writing.metric.references) == 20
    assert workload.preprocessing == TextPreprocessing(str(tmp_path / "bart" / "tokenizer.json"), longest=16, end=1)
    decode = workload.writing.metric.decode
    assert {decode(row) for row in target.tolist()} == set(workload.writing.metric.references[8:])
    assert workload.writing.evaluation is not None
    rows = evaluate_written(workload.model, workload.writing, workload.writing.evaluation, workload.judge)
    assert len(rows) == 12
    assert check(tmp_path / "recipe.yaml").metric == "bleu"


def test_mistakes_are_named(tmp_path: Path) -> None:
    gpt(tmp_path / "gpt")
    classifier(tmp_path / "bert")
    running_text(tmp_path / "book.txt", 800)
    (tmp_path / "short.txt").write_text("a\n")
    (tmp_path / "latin.txt").write_bytes(b"\xe9t\xe9")
    (tmp_path / "three.tsv").write_text("a\tb\tc\nx\ty\tz\n")
    (tmp_path / "wide.conll").write_text("film\n")
    (tmp_path / "other.txt").write_text("кино\n" * 200, encoding="utf-8")
    (tmp_path / "other.conll").write_text("кино O\n\n" * 200, encoding="utf-8")
    (tmp_path / "other.tsv").write_text("a\tb\n" + "кино\tкино\n" * 40, encoding="utf-8")
    config = BertConfig(**SIZES, id2label=TAGS)
    save(BertForTokenClassification(config), tmp_path / "tags")
    save(BertForMaskedLM(config), tmp_path / "masked")
    bart(tmp_path / "bart")
    for written, message in (
        ("{path: gpt, data: book.txt, max_length: 16, metric: accuracy}", r"huggingface.metric: is for sequence-class"),
        ("{path: gpt, data: book.txt, max_length: 16, beams: 0}", r"beams must be 1 or more, found 0"),
        ("{path: gpt, data: short.txt, max_length: 16}", r"short.txt: 2 characters in too few lines"),
        ("{path: gpt, data: latin.txt, max_length: 16}", r"latin.txt: is not UTF-8 text"),
        ("{path: gpt, data: three.tsv, max_length: 16}", r"three.tsv must end in .txt"),
        ("{path: bert, data: book.txt, max_length: 16, task: seq2seq}", r"a bert model does not do seq2seq .*says sequence-classification"),
        ("{path: gpt, data: other.txt, max_length: 16}", r"huggingface.data: other.txt: train: 100% of the tokens are  , what the"),
        ("{path: masked, data: other.txt, max_length: 16}", r"huggingface.data: other.txt: train: 100% of the tokens are .UNK., what"),
        ("{path: tags, data: other.conll, max_length: 16}", r"huggingface.data: other.conll: 100% of the tokens are .UNK., what"),
        ("{path: bart, data: other.tsv, max_length: 16}", r"huggingface.data: other.tsv: 100% of the tokens are  , what the"),
        ("{path: bert, data: wide.conll, max_length: 16, task: token-classification}", r"config.json names no tags"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            load(tmp_path, f"huggingface: {written}")
    with pytest.raises(InputError, match=r"wide.conll:1: found 'film'; each line must be a word and its tag"):
        read_conll(tmp_path / "wide.conll")
