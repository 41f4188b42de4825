"""Tagged sentences from a CoNLL file: reading, spelling words in characters, one label a word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from benchmarks.metrics import IGNORED
from compress.padded import LengthBatches
from export.errors import InputError

LONGEST = 510
"""Characters of a sentence, as the network reads it; two tokens are put around each."""

SKIPPED = "-DOCSTART-"
"""The first word of a line that begins a document and is no sentence."""


@dataclass(frozen=True)
class Sentence:
    """Words with their tags, the first of which stands in line `line` of the file."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    line: int


def read_conll(path: Path) -> list[Sentence]:
    """Read a file with a word a line: the word first, its tag last, spaces or tabs between; an empty line ends a sentence.

    Raises:
        InputError: names file and line of what is no word with a BIO tag.
    """
    if not path.is_file():
        raise InputError(
            f"examples/tagging: {path} is missing; it must be a CoNLL file (a word and its tag a line, an empty line between "
            "sentences)"
        )
    found: list[Sentence] = []
    rows: list[tuple[str, str]] = []
    for number, line in enumerate([*path.read_text(encoding="utf-8").split("\n"), ""], start=1):
        if line.strip() and not line.startswith(SKIPPED):
            rows.append(_parse(path, number, line))
        elif rows:
            words, tags = zip(*rows, strict=True)
            found.append(Sentence(words, tags, number - len(rows)))
            rows = []
    if not found:
        raise InputError(f"{path}: holds no sentence; it must hold at least one")
    return found


def tags_of(sentences: Sequence[Sentence]) -> tuple[str, ...]:
    """The tags that occur, O first, in the order of the alphabet."""
    found = {tag for sentence in sentences for tag in sentence.tags} - {"O"}
    return ("O", *sorted(found))


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


def _parse(path: Path, number: int, line: str) -> tuple[str, str]:
    columns = line.split()
    if len(columns) < 2:
        raise InputError(
            f"{path}:{number}: found {line!r}; each line must be a word and its tag with a space or a tab between, and "
            "sentences must be parted by an empty line"
        )
    if not re.fullmatch(r"O|[BI]-.+", columns[-1]):
        raise InputError(
            f"{path}:{number}: found the tag '{columns[-1]}'; the last column must be O, B-TYPE or I-TYPE (BIO)"
        )
    return columns[0], columns[-1]


def _padded(rows: Sequence[Tensor], value: int) -> Tensor:
    return pad_sequence(list(rows), batch_first=True, padding_value=value)
