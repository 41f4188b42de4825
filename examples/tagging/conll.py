"""Tagged sentences from a CoNLL file: reading, spelling words in characters, one label a word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from benchmarks.metrics import IGNORED
from compress.padded import LengthBatches
from compress.ready.conll import Sentence, tags_of
from compress.ready.conll import read_conll as read
from export.errors import InputError

__all__ = ["Sentence", "read_conll", "tagged_batches", "tags_of"]

LONGEST = 510
"""Characters of a sentence, as the network reads it; two tokens are put around each."""


def read_conll(path: Path) -> list[Sentence]:
    """The sentences of a file whose tags are BIO, see compress.ready.conll.

    Raises:
        InputError: names file and line of what is no word with a BIO tag.
    """
    if not path.is_file():
        raise InputError(
            f"examples/tagging: {path} is missing; it must be a CoNLL file (a word and its tag a line, an empty line between "
            "sentences)"
        )
    sentences = read(path)
    for sentence in sentences:
        for number, tag in enumerate(sentence.tags, start=sentence.line):
            if not re.fullmatch(r"O|[BI]-.+", tag):
                raise InputError(
                    f"{path}:{number}: found the tag '{tag}'; the last column must be O, B-TYPE or I-TYPE (BIO)"
                )
    return sentences


def tagged_batches(
    tokenizer: Tokenizer,
    path: Path,
    tags: Sequence[str],
    batch_size: int,
    shuffle: bool = False,
) -> LengthBatches:
    """The sentences of a file; the target has the number of a word's tag at its first piece, IGNORED everywhere else.

    Args:
        tags: by the number of their class.

    Raises:
        InputError: names file and line of a tag that is not among them, of a word of which no character is left, and of a
            sentence that is too long.
    """
    sentences = read_conll(path)
    numbers = {tag: number for number, tag in enumerate(tags)}
    tokenizer.no_padding()
    tokenizer.no_truncation()
    encodings = tokenizer.encode_batch([list(sentence.words) for sentence in sentences], is_pretokenized=True)
    ids = [torch.tensor(encoding.ids) for encoding in encodings]
    labels = [
        torch.tensor(_labels(path, sentence, encoding.word_ids, numbers))
        for sentence, encoding in zip(sentences, encodings, strict=True)
    ]
    mask = [torch.ones_like(row) for row in ids]
    return LengthBatches(
        {"input_ids": _padded(ids, 0), "attention_mask": _padded(mask, 0)},
        _padded(labels, IGNORED),
        batch_size,
        shuffle,
    )


def _labels(path: Path, sentence: Sentence, words: Sequence[int | None], numbers: dict[str, int]) -> list[int]:
    """One for each piece; `words` gives the word that a piece is of, None for those put around the sentence."""
    if len(words) > LONGEST + 2:
        raise InputError(
            f"{path}:{sentence.line}: found a sentence of {len(words) - 2} characters; at most {LONGEST} are allowed: "
            "part it by an empty line"
        )
    labels, seen = [IGNORED] * len(words), set[int | None]({None})
    for place, word in enumerate(words):
        if word not in seen:
            labels[place] = _number(path, sentence, word, numbers)
            seen.add(word)
    for word in range(len(sentence.words)):
        if word not in seen:
            raise InputError(
                f"{path}:{sentence.line + word}: found the word {sentence.words[word]!r}, of which the tokenizer leaves no "
                "character; remove the line"
            )
    return labels


def _number(path: Path, sentence: Sentence, word: int, numbers: dict[str, int]) -> int:
    tag = sentence.tags[word]
    if tag not in numbers:
        raise InputError(
            f"{path}:{sentence.line + word}: found the tag '{tag}', which the training file does not have; "
            f"it has {', '.join(numbers)}"
        )
    return numbers[tag]


def _padded(rows: Sequence[Tensor], value: int) -> Tensor:
    return pad_sequence(list(rows), batch_first=True, padding_value=value)
