"""SST-2 from a folder of TSV files: reading, tokenizing, batching."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer

from compress.padded import LengthBatches, encode
from export.errors import InputError

HEADER = "sentence\tlabel"
LABELS = ("0", "1")

LONGEST = 128
"""Tokens; the longest sentence of SST-2 has 66."""


@dataclass(frozen=True)
class Split:
    """One TSV file: sentences and their labels, 0 negative and 1 positive."""

    sentences: tuple[str, ...]
    labels: tuple[int, ...]


def read_split(folder: Path, name: str) -> Split:
    """Read `folder/name.tsv`: a header `sentence<TAB>label`, then one sentence a line."""
    path = folder / f"{name}.tsv"
    if not path.is_file():
        raise InputError(
            f"examples/sst2: {path} is missing; the folder must hold train.tsv, dev.tsv and test.tsv, each with the "
            "header 'sentence<TAB>label' (for instance from github.com/forest-snow/alps); "
            "name it with --set arguments.data=FOLDER"
        )
    lines = path.read_text(encoding="utf-8").splitlines()
    if not lines or lines[0] != HEADER:
        raise InputError(f"{path}:1: found {lines[0] if lines else ''!r} as header; it must be 'sentence<TAB>label'")
    rows = [_parse(path, number, line) for number, line in enumerate(lines[1:], start=2)]
    if not rows:
        raise InputError(f"{path}: no sentence under the header; it must hold at least one")
    return Split(tuple(sentence for sentence, _ in rows), tuple(label for _, label in rows))


def _parse(path: Path, number: int, line: str) -> tuple[str, int]:
    sentence, tab, label = line.rpartition("\t")
    if not tab or label not in LABELS:
        raise InputError(f"{path}:{number}: found {line!r}; each line must be a sentence, a tab, and 0 or 1")
    return sentence.strip(), int(label)


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a `tokenizer.json`."""
    if not path.is_file():
        raise InputError(f"examples/sst2: {path} is missing; it must be the tokenizer.json of MiniLM-L6")
    return Tokenizer.from_file(str(path))


def read_batches(
    folder: Path, name: str, tokenizer: Tokenizer, batch_size: int, shuffle: bool = False
) -> LengthBatches:
    """One split of a folder, tokenized, as batches."""
    split = read_split(folder, name)
    return LengthBatches(encode(tokenizer, split.sentences, LONGEST), torch.tensor(split.labels), batch_size, shuffle)
