"""The tagging example: reading CoNLL files, one label a word, the bundled sentences, and a whole run by entities."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from benchmarks.metrics import IGNORED
from compress.characters import character_tokenizer
from compress.pipeline import run
from compress.training.fit import Plan
from export.errors import InputError
from tests.examples.conftest import EXAMPLES, Load

pytest.importorskip("transformers", reason="transformers is not installed: pip install edge-compress[nlp]")

TEXT = """\
-DOCSTART- -X- O

Tam\tNNP\tB-PERSON
Ley NNP I-PERSON
saw O

Oslo B-PLACE
"""


@pytest.fixture
def read(load: Load) -> Any:
    return load("tagging", "conll").read_conll


def test_words_and_tags_are_the_first_and_the_last_column(read: Any, tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text(TEXT)
    first, second = read(tmp_path / "a.conll")
    assert (first.words, first.tags, first.line) == (("Tam", "Ley", "saw"), ("B-PERSON", "I-PERSON", "O"), 3)
    assert (second.words, second.tags, second.line) == (("Oslo",), ("B-PLACE",), 7)


def test_the_tags_are_those_of_the_file(load: Load, read: Any, tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text(TEXT)
    assert load("tagging", "conll").tags_of(read(tmp_path / "a.conll")) == ("O", "B-PERSON", "B-PLACE", "I-PERSON")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Tam B-PERSON\nLey\n", r"a\.conll:2: found 'Ley'; each line must be a word and its tag .* an empty line"),
        ("Tam PERSON\n", r"a\.conll:1: found the tag 'PERSON'; the last column must be O, B-TYPE or I-TYPE"),
        ("Tam B-\n", r"a\.conll:1: found the tag 'B-'"),
        ("\n\n", r"a\.conll: holds no sentence; it must hold at least one"),
    ],
)
def test_a_malformed_file_is_refused_with_the_line(read: Any, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.conll").write_text(text)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "a.conll")


def test_a_missing_file_says_what_it_must_be(read: Any, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"gone\.conll is missing; it must be a CoNLL file \(a word and its tag a line"
    ):
        read(tmp_path / "gone.conll")


def batches(load: Load, path: Path, tags: tuple[str, ...]) -> Any:
    return load("tagging", "conll").tagged_batches(character_tokenizer([], lowercase=False), path, tags, batch_size=2)


def test_a_words_label_stands_at_its_first_character_and_nowhere_else(load: Load, tmp_path: Path) -> None:
    """3.5 is one word of the file, which BERT's tokenizer parts at its point."""
    (tmp_path / "a.conll").write_text("Tam B-X\n3.5 O\n\ngo O\n")
    made = batches(load, tmp_path / "a.conll", ("O", "B-X"))
    x = IGNORED
    assert made.target.tolist() == [[x, 1, x, x, 0, x, x, x], [x, 0, x, x, x, x, x, x]]
    assert made.inputs["attention_mask"].sum(1).tolist() == [8, 4]
    assert made.inputs["input_ids"][1].tolist()[0:1] == [2] and made.inputs["input_ids"][1].tolist()[3:] == [
        3,
        0,
        0,
        0,
        0,
    ]


def test_tags_words_and_lengths_that_cannot_be_are_refused_with_their_line(load: Load, tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text("go O\n\nTam O\nLey B-Y\n")
    with pytest.raises(
        InputError, match=r"a\.conll:4: found the tag 'B-Y', which the training file does not have; it has O, B-X"
    ):
        batches(load, path, ("O", "B-X"))
    path.write_text("go O\n\u200b O\n", encoding="utf-8")
    with pytest.raises(
        InputError, match=r"a\.conll:2: found the word '.u200b', of which the tokenizer leaves no character"
    ):
        batches(load, path, ("O",))
    path.write_text("go O\n\n" + "abcdefghij O\n" * 52)
    with pytest.raises(
        InputError, match=r"a\.conll:3: found a sentence of 520 characters; at most 510 are allowed: part it"
    ):
        batches(load, path, ("O",))


def test_the_bundled_sentences_are_those_that_the_script_makes_and_share_no_name(load: Load, read: Any) -> None:
    script = load("tagging", "make_sentences")
    names, size = [], 0
    for name, made in script.sentences(script.SENTENCES).items():
        path = EXAMPLES / "tagging" / f"{name}.conll"
        assert path.read_text() == "\n".join(made)
        size += path.stat().st_size
        sentences = read(path)
        assert len({each.words for each in sentences}) == len(sentences) == script.SENTENCES[name]
        entities = {
            word
            for each in sentences
            for word, tag in zip(each.words, each.tags, strict=True)
            if tag.endswith(("PERSON", "PLACE")) and len(word) > 2
        }
        names.append(entities - {"New", "Lake", "Port", "Upper"})
    assert all(names) and not (names[0] & names[1] or names[0] & names[2] or names[1] & names[2])
    assert size < 100_000


def test_missing_weights_say_how_to_make_them(load: Load, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"tagger\.safetensors is missing; make it with: python examples/tagging/train\.py"
    ):
        load("tagging", "workload").tagging(weights=str(tmp_path))


def test_a_file_of_ones_own_goes_through_all_steps(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two letters and what they stand for: trained, distilled word by word, quantized, measured by entities."""
    train = load("tagging", "train")
    for name, value in (("LAYERS", 1), ("WIDTH", 16), ("HEADS", 2)):
        monkeypatch.setattr(sys.modules["tagger"], name, value)
    files = {}
    for part, name in enumerate(("train", "validation", "test")):
        lines = [f"x{number} B-X\ny{number} I-X\nz O\n" for number in range(part, 90, 3)]
        files[name] = tmp_path / f"{name}.conll"
        files[name].write_text("\n".join(lines))
    torch.manual_seed(0)
    train.train_tagger(files, tmp_path, Plan("tagger", 12, 0.02, tmp_path / "tagger.resume"), batch_size=8)
    assert not (tmp_path / "tagger.resume").exists()

    recipe = yaml.safe_load((EXAMPLES / "tagging" / "tagging-all.yaml").read_text())
    recipe |= {
        "workload": f"{EXAMPLES / 'tagging' / 'workload.py'}:tagging",
        "arguments": {"weights": str(tmp_path), **{name: str(path) for name, path in files.items()}},
        "steps": [
            {"distill": {"epochs": 1, "optimizer": "adamw", "learning_rate": 0.0001}},
            {"quantize": {"calibration_samples": 30}},
        ],
        "targets": ["onnxruntime_mobile"],
        "benchmark": {"seconds": 0.2, "processes": 1, "half_width": 0.9, "throughput": False},
        "budget": {"metric_drop": 0.9},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    report = run(tmp_path / "recipe.yaml", tmp_path / "run")
    chosen = report.chosen("onnxruntime_mobile")
    assert report.metric == "entity_f1" and chosen is not None and chosen.evaluation is not None
    assert chosen.evaluation.samples == 30 and chosen.evaluation.value > 0.9
    assert report.rows[0].evaluation is not None and report.rows[0].evaluation.value > 0.9
