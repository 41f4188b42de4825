"""The tokenizer of characters: its pieces, its unknowns, and that a bundle's runner reads it as the package does."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.wordpiece import WordPiece, load_tokenizer
from compress.characters import SPECIAL, character_tokenizer

tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed: pip install edge-compress[nlp]")

TEXTS = ("同步A股首秀：港股缩量回调", "体验2D巅峰 倚天屠龙记", "同股", "«Élan»")


def test_chinese_characters_are_words_and_others_are_spelled() -> None:
    found = character_tokenizer(TEXTS, least=1).encode("港股 SUN22：", add_special_tokens=False).tokens
    assert found == ["港", "股", "s", "##u", "##n", "##2", "##2", "："]


def test_what_is_rare_is_unknown_and_takes_its_word_along() -> None:
    """股 occurs three times, 同 twice, 港 once; é is read as e, and « occurs once."""
    found = character_tokenizer(TEXTS, least=2).encode("股同港", add_special_tokens=False).tokens
    assert found == ["股", "同", "[UNK]"]
    assert character_tokenizer(["ß"]).encode("Straße", add_special_tokens=False).tokens == ["[UNK]"]


def test_upper_case_is_kept_where_that_is_asked_for() -> None:
    found = character_tokenizer(["É"], least=1, lowercase=False).encode("New É", add_special_tokens=False).tokens
    assert found == ["N", "##e", "##w", "É"]


def test_the_vocabulary_begins_with_the_special_tokens_and_is_the_same_each_time() -> None:
    made = character_tokenizer([], least=1)
    assert made.get_vocab_size() == len(SPECIAL) + 2 * (26 + 10)
    assert character_tokenizer([], lowercase=False).get_vocab_size() == len(SPECIAL) + 2 * (26 + 26 + 10)
    assert [made.id_to_token(number) for number in range(5)] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert character_tokenizer(TEXTS).to_str() == character_tokenizer(reversed(TEXTS)).to_str()


def test_the_runner_reads_its_file_without_a_package(tmp_path: Path) -> None:
    made = character_tokenizer(TEXTS, least=1)
    made.save(str(tmp_path / "tokenizer.json"))
    tokenize, padding = load_tokenizer(tmp_path / "tokenizer.json")
    assert isinstance(tokenize, WordPiece) and padding == 0
    made.enable_truncation(12)
    for text in (*TEXTS, "iPhone4S [MASK] 同ß股", "", "  \u3000 ", "x" * 101):
        assert tokenize(text, 12) == made.encode(text).ids
