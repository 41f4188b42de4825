"""GPT-2's tokenizer against the package `tokenizers`, with a vocabulary learned from this project's own pages."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from benchmarks.byte_pairs import BytePairs, load_any
from export.errors import InputError, UnsupportedError

tokenizers = pytest.importorskip("tokenizers")
ROOT = Path(__file__).parents[2]
TEXTS = [file.read_text(encoding="utf-8") for file in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))]
ODD = [
    "",
    " ",
    "   two  and   three ",
    "\n\n\tlines\r\n  and tabs\t",
    "it's we're I'VE they'll 'tis ''s don't'd",
    "na\u00efve \u0395\u03bb\u03bb\u03ac\u03b4\u03b1 \u4f60\u597d\u4e16\u754c \U0001f600\U0001f468\u200d\U0001f469",
    "12 \u00bd\u2167 \u0663\u0664 x2 3y _a_ __ a_1",
    "no\u00a0break\u2003space\u3000wide \u2028line\x1c\x1d\x85next",
    "<end>a<end><end> <pad>",
    "e\u0301\u0301 \u202e\ufeff\x00\x7f",
]


def learned(folder: Path, prefix: bool) -> Path:
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=["<pad>", "<end>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(TEXTS, trainer)
    path = folder / "tokenizer.json"
    made.save(str(path))
    return path


@pytest.mark.parametrize("prefix", [False, True])
def test_texts_give_the_same_ids_and_come_back(tmp_path: Path, prefix: bool) -> None:
    path = learned(tmp_path, prefix)
    tokenize, padding = load_any(path)
    reference = tokenizers.Tokenizer.from_file(str(path))
    assert isinstance(tokenize, BytePairs) and padding == 0
    letters = random.Random(0)
    alphabet = "aeé 'stlx\n\t.,1²½ß中\U0001f600" + "\u00a0\u0301"
    made = ["".join(letters.choices(alphabet, k=letters.randrange(1, 24))) for _ in range(300)]
    lines = [line for text in TEXTS for line in text.splitlines()]
    for text in (*ODD, *made, *lines, TEXTS[0]):
        ids = tokenize(text, 1 << 20)
        assert ids == reference.encode(text).ids, ascii(text)
        assert tokenize.decode(ids) == reference.decode(ids, skip_special_tokens=True), ascii(text)


def test_a_long_text_is_cut_and_half_a_letter_is_told(tmp_path: Path) -> None:
    tokenize, _ = load_any(learned(tmp_path, False))
    assert isinstance(tokenize, BytePairs)
    whole = tokenize(TEXTS[0], 1 << 20)
    assert tokenize(TEXTS[0], 7) == whole[:7]
    first, *_ = tokenize("\U0001f600", 9)
    assert tokenize.decode([first]) == "\ufffd" and tokenize.decode([10**6]) == ""


@pytest.mark.parametrize("changes", [{"dropout": 0.1}, {"byte_fallback": True}, {"end_of_word_suffix": "</w>"}])
def test_what_is_not_done_here_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = learned(tmp_path, False)
    value = json.loads(path.read_text())
    value["model"] |= changes
    path.write_text(json.dumps(value))
    with pytest.raises(UnsupportedError, match=r"tokenizer\.json: encodes byte pairs otherwise than GPT-2 does"):
        load_any(path)
    path.write_text("{")
    with pytest.raises(InputError, match=r"tokenizer\.json: is no tokenizer\.json"):
        load_any(path)


def test_merges_as_older_files_write_them(tmp_path: Path) -> None:
    path = learned(tmp_path, False)
    value = json.loads(path.read_text())
    value["model"]["merges"] = [" ".join(pair) for pair in value["model"]["merges"]]
    assert BytePairs(value)("measured, not assumed", 99) == load_any(path)[0]("measured, not assumed", 99)
