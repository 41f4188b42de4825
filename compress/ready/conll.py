"""Sentences with a tag for each word, from files in CoNLL's format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from export.errors import InputError

ENDINGS = (".conll", ".txt", ".bio", ".iob2")
SKIPPED = "-DOCSTART-"
"""The first word of a line that begins a document and is no sentence."""


@dataclass(frozen=True)
class Sentence:
    """Words with their tags, the first of which stands in line `line` of the file."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    path: Path
    line: int

    @property
    def key(self) -> str:
        """What the sentence is told apart by when some are held out."""
        return " ".join(self.words)


def read_conll(path: Path) -> list[Sentence]:
    """The sentences of a file: a word a line, first the word, last its tag; an empty line ends a sentence.

    Columns between them are left out, as are lines that begin a document.

    Raises:
        InputError: names file and line of what is no word with a tag; or if there is no sentence.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    found = list(_sentences(lines, path))
    if not found:
        raise InputError(f"{path}: holds no sentence; it must hold at least one")
    return found


def tags_of(sentences: Sequence[Sentence]) -> tuple[str, ...]:
    """The tags that occur, O first, the others sorted."""
    found = {tag for sentence in sentences for tag in sentence.tags} - {"O"}
    return ("O", *sorted(found))


def _sentences(lines: Sequence[str], path: Path) -> Iterator[Sentence]:
    rows: list[tuple[str, str]] = []
    for number, line in enumerate([*lines, ""], start=1):
        columns = line.split()
        if columns and columns[0] != SKIPPED:
            if len(columns) < 2:
                raise InputError(
                    f"{path}:{number}: found {line.strip()!r}; each line must be a word and its tag with a space or a tab between, "
                    "and an empty line must end each sentence"
                )
            rows.append((columns[0], columns[-1]))
        elif rows:
            words, tags = zip(*rows, strict=True)
            yield Sentence(words, tags, path, number - len(rows))
            rows = []
