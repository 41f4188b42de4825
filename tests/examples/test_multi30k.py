"""The multi30k example: reading pairs, batches, both networks, the training script, the workload. Tiny data stand in."""

from __future__ import annotations

import gzip
import random
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.metrics import IGNORED
from compress.generation.in_torch import evaluate_written
from export.errors import InputError
from tests.examples.conftest import Load

pytest.importorskip("transformers", reason="transformers is not installed: pip install edge-compress[nlp]")

ENGLISH = ("a", "man", "dog", "woman", "runs", "sits", "jumps", "outside", "quickly", "red")
GERMAN = ("ein", "Mann", "Hund", "Frau", "läuft", "sitzt", "springt", "draußen", "schnell", "rot")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pairs translated word by word."""
    draw = random.Random(0)
    for name, count in (("train", 60), ("val", 8), ("test_2016_flickr", 9)):
        rows = [draw.choices(range(10), k=draw.randint(3, 7)) for _ in range(count)]
        for language, words in (("en", ENGLISH), ("de", GERMAN)):
            text = "".join(" ".join(words[place] for place in row) + ".\n" for row in rows)
            (tmp_path / f"{name}.{language}.gz").write_bytes(gzip.compress(text.encode()))
    return tmp_path


def test_pairs_are_read_side_by_side(load: Load, folder: Path) -> None:
    example = load("multi30k", "pairs")
    split = example.read_split(folder, "val")
    assert len(split.source) == len(split.target) == 8
    translated = [" ".join(GERMAN[ENGLISH.index(word)] for word in line[:-1].split()) + "." for line in split.source]
    assert tuple(translated) == split.target
    (folder / "val.de.gz").write_bytes(gzip.compress(b"ein Mann.\n"))
    with pytest.raises(InputError, match="val has 8 sentences in en and 1 in de"):
        example.read_split(folder, "val")
    with pytest.raises(
        InputError, match=r"dev\.en\.gz is missing; the folder must hold train, val and test_2016_flickr"
    ):
        example.read_split(folder, "dev")


def test_a_batch_gives_the_decoder_what_comes_before_each_target(load: Load, folder: Path) -> None:
    example = load("multi30k", "pairs")
    split = example.read_split(folder, "train")
    tokenizer = example.train_tokenizer(split, 400)
    padding, end, start = (tokenizer.token_to_id(token) for token in (example.PADDING, example.END, example.START))
    seen = 0
    for inputs, target in example.pair_batches(tokenizer, split, batch_size=7, shuffle=True):
        seen += len(target)
        for row in range(len(target)):
            answer = [token for token in target[row].tolist() if token != IGNORED]
            given = inputs["decoder_input_ids"][row].tolist()
            assert answer[-1] == end and given[: len(answer)] == [start, *answer[:-1]]
            assert set(given[len(answer) :]) <= {padding}
            source = inputs["input_ids"][row][inputs["attention_mask"][row] == 1].tolist()
            assert source[-1] == end and padding not in source
            text = example.Decode(tokenizer)
            assert text([*answer, padding, 7]) in split.target and text(source) in split.source
    assert seen == 60


def test_prompts_number_their_references(load: Load, folder: Path) -> None:
    example = load("multi30k", "pairs")
    split = example.read_split(folder, "val")
    tokenizer = example.train_tokenizer(split, 400)
    text = example.Decode(tokenizer)
    for inputs, target in example.prompts(tokenizer, split, 100, batch_size=3):
        for ids, number in zip(inputs["input_ids"].tolist(), target.tolist(), strict=True):
            assert text(ids) == split.source[number - 100]


@pytest.mark.parametrize("name", ["transformer", "bert-gpt"])
def test_training_writes_what_the_workload_reads(
    name: str,
    load: Load,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / f"{name}.safetensors"
    options = ["--network", name, "--data", str(folder), "--out", str(out), "--epochs", "3", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", ["train.py", *options])
    load("multi30k", "train").main()
    assert "test BLEU" in capsys.readouterr().out
    workload = load("multi30k", "workload").translation(data=str(folder), weights=str(out))
    assert workload.writing is not None and workload.writing.metric is not None
    rows = evaluate_written(workload.model, workload.writing, workload.writing.evaluation, workload.writing.metric)
    assert len(rows) == 9
    assert workload.writing.metric.value(rows) == pytest.approx(workload.baseline, abs=workload.baseline_tolerance)
    inputs, _ = next(iter(workload.train))
    with torch.no_grad():
        logits = workload.model(**inputs)
    assert logits.shape[:2] == inputs["decoder_input_ids"].shape
    with pytest.raises(InputError, match="metric must be bleu or rougeL, found 'chrf'"):
        load("multi30k", "workload").translation(data=str(folder), weights=str(out), metric="chrf")
