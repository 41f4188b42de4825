"""The unknown token of every kind of tokenizer, and its share."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from compress.ready.unknown import unknown_share, unknown_token
from compress.ready.words import Words
from tests.compress.ready.folders import wordpiece


def words_of(model: Any, pre_tokenizer: Any = None) -> Words:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer or pre_tokenizers.Whitespace()
    return Words(tokenizer, None, 0)


@pytest.mark.parametrize(
    ("model", "token"),
    [
        (models.WordPiece({"a": 0, "[UNK]": 1}, unk_token="[UNK]"), 1),
        (models.WordLevel({"a": 0, "b": 1, "<unk>": 2}, unk_token="<unk>"), 2),
        (models.BPE({"a": 0, "<unk>": 1}, [], unk_token="<unk>"), 1),
        (models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0), 0),
        (models.WordLevel({"a": 0}, unk_token="<unk>"), None),  # named, and not there
    ],
)
def test_every_kind_of_tokenizer_says_which_token_is_the_unknown_one(model: Any, token: int | None) -> None:
    words = words_of(model)
    assert unknown_token(words) == token
    if token is not None:
        assert unknown_share(words, ["a a", "a x"]) == 0.25


def test_bytes_are_all_known() -> None:
    alphabet = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    words = words_of(models.BPE(alphabet, []), pre_tokenizers.ByteLevel())
    assert unknown_token(words) is None
    assert unknown_share(words, ["кино"]) == 0.0


def test_tokens_around_a_text_do_not_count_and_nothing_is_cut_or_filled_up() -> None:
    words = Words(wordpiece(), None, 0)
    words.tokenizer.enable_truncation(3)
    words.tokenizer.enable_padding()
    # "film" and three that are not in the vocabulary; [CLS] and [SEP] would make it 3 of 6
    assert unknown_share(words, ["film x y z"]) == 0.75
    assert unknown_share(words, ["", " "]) == 0.0
    assert unknown_share(words, []) == 0.0
