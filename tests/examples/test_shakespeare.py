"""The shakespeare example: cutting the text, the windows, the training script, the workload. A tiny text stands in."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.metrics import Perplexity
from compress.evaluate import evaluate
from compress.ready.plain_text import ShiftedWindows
from export.errors import InputError
from tests.examples.conftest import Load

pytest.importorskip("transformers", reason="transformers is not installed: pip install edge-compress[nlp]")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Lines that a rule makes, about 30 kB."""
    draw = random.Random(0)
    names = ("ROMEO", "JULIET", "NURSE", "TYBALT", "PARIS")
    words = ("love", "night", "sword", "poison", "moon", "death", "feast", "orchard", "letter", "banish")
    lines = [f"{draw.choice(names)}: {' '.join(draw.choices(words, k=draw.randint(3, 9)))}." for _ in range(800)]
    path = tmp_path / "input.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_the_text_is_cut_at_lines_and_nothing_is_lost(load: Load, text: Path) -> None:
    parts = load("shakespeare", "play_text").read_parts(text)
    assert parts.train + parts.validation + parts.evaluation == text.read_text()
    assert parts.train.endswith(".\n") and parts.validation.endswith(".\n")
    assert len(parts.validation) / len(text.read_text()) == pytest.approx(0.05, abs=0.01)


def test_every_text_is_spelled_and_read_back(load: Load, text: Path) -> None:
    example = load("shakespeare", "play_text")
    tokenizer = example.train_tokenizer(text.read_text(), 400)
    for written in ("ROMEO: love\n", "Größe\tder 月", ""):
        assert tokenizer.decode(example.encode(tokenizer, written).tolist()) == written


def test_windows_follow_on_each_other_and_targets_are_the_next_tokens(load: Load) -> None:
    example = load("shakespeare", "play_text")
    found = example.windows(torch.arange(23), batch_size=2, length=5)
    assert found.inputs["input_ids"].tolist() == [list(range(first, first + 5)) for first in (0, 5, 10, 15)]
    assert found.target.tolist() == [list(range(first, first + 5)) for first in (1, 6, 11, 16)]
    with pytest.raises(InputError, match="4 tokens are no window of 5; the text is too short"):
        example.windows(torch.arange(4), batch_size=2, length=5)


def test_a_pass_of_shifted_windows_overlaps_nowhere() -> None:
    batches = ShiftedWindows(torch.arange(101), length=10, batch_size=3)
    firsts = []
    for _ in range(2):
        passed = list(batches)
        assert len(passed) == len(batches)
        tokens = torch.cat([inputs["input_ids"] for inputs, _ in passed]).flatten().tolist()
        assert len(tokens) == len(set(tokens)) == 10 * batches.samples
        assert all(torch.equal(inputs["input_ids"] + 1, target) for inputs, target in passed)
        firsts.append(min(tokens))
    assert max(firsts) < 10


def test_a_missing_or_short_text_says_what_to_give(load: Load, tmp_path: Path) -> None:
    example = load("shakespeare", "play_text")
    with pytest.raises(
        InputError, match=r"input\.txt is missing; it must be a plain text .* --set arguments\.data=FILE"
    ):
        example.read_parts(tmp_path / "input.txt")
    (tmp_path / "short.txt").write_text("one line")
    with pytest.raises(InputError, match="8 characters in too few lines"):
        example.read_parts(tmp_path / "short.txt")


def test_training_writes_what_the_workload_reads(
    load: Load, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "gpt.safetensors"
    options = ["--data", str(text), "--out", str(out), "--epochs", "2", "--threads", "1", "--learning-rate", "0.003"]
    monkeypatch.setattr(sys, "argv", ["train.py", *options])
    load("shakespeare", "train").main()
    assert "tokens/s" in capsys.readouterr().out
    workload = load("shakespeare", "workload").shakespeare(data=str(text), weights=str(out), new_tokens=4)
    assert workload.writing is not None and workload.writing.generation.new_tokens == 4
    value = Perplexity().value(evaluate(workload.model, workload.evaluation, Perplexity()))
    assert value == pytest.approx(workload.baseline, abs=workload.baseline_tolerance)
    words = workload.model.model.config.vocab_size
    assert value < 0.5 * words  # an untrained model scores about the number of words
    with pytest.raises(
        InputError, match=r"absent\.safetensors is missing; make it with: python examples/shakespeare/train\.py"
    ):
        load("shakespeare", "workload").shakespeare(data=str(text), weights=str(tmp_path / "absent.safetensors"))
