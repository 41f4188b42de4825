"""SST-2 from a folder of TSV files: reading, tokenizing, and batches in which little is padding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from compress.workload import Batch
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


def encode(tokenizer: Tokenizer, sentences: Sequence[str], longest: int = LONGEST) -> dict[str, Tensor]:
    """Token ids and mask (1 token, 0 padding), int64, shape (sentences, tokens of the longest sentence).

    Sentences of more than `longest` tokens are cut there.
    """
    tokenizer.enable_truncation(longest)
    tokenizer.enable_padding()
    encodings = tokenizer.encode_batch(list(sentences))
    return {
        "input_ids": torch.tensor([encoding.ids for encoding in encodings]),
        "attention_mask": torch.tensor([encoding.attention_mask for encoding in encodings]),
    }


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a `tokenizer.json`."""
    if not path.is_file():
        raise InputError(f"examples/sst2: {path} is missing; it must be the tokenizer.json of MiniLM-L6")
    return Tokenizer.from_file(str(path))


def trim(inputs: Mapping[str, Tensor], generator: torch.Generator | None = None) -> dict[str, Tensor]:
    """Cut a batch at its longest sentence; padding stands at the end. As every Transform it takes a generator."""
    length = int(inputs["attention_mask"].sum(dim=1).max())
    return {name: tensor[:, :length] for name, tensor in inputs.items()}


@dataclass(frozen=True)
class LengthBatches:
    """Batches of sentences of similar length, trimmed to the longest of each: a third of the tokens of random batches.

    Shuffled, each pass draws a new order from torch's global generator, sorts it by length within pools of `pool`
    batches, and shuffles the batches; otherwise the sentences are sorted by length. Every pass gives each sentence once.

    Args:
        inputs: `input_ids` and `attention_mask`, shape (samples, length), padded at the end.
        target: one label a sample.
    """

    inputs: Mapping[str, Tensor]
    target: Tensor
    batch_size: int
    shuffle: bool = False
    pool: int = 50

    @property
    def samples(self) -> int:
        return len(self.target)

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for rows in self._shuffled() if self.shuffle else self._sorted(torch.arange(self.samples)):
            yield trim({name: tensor[rows] for name, tensor in self.inputs.items()}), self.target[rows]

    def _shuffled(self) -> list[Tensor]:
        pools = torch.split(torch.randperm(self.samples), self.pool * self.batch_size)
        batches = [rows for pool in pools for rows in self._sorted(pool)]
        return [batches[index] for index in torch.randperm(len(batches)).tolist()]

    def _sorted(self, rows: Tensor) -> list[Tensor]:
        by_length = self.inputs["attention_mask"][rows].sum(dim=1).argsort(stable=True)
        return list(torch.split(rows[by_length], self.batch_size))


def read_batches(
    folder: Path, name: str, tokenizer: Tokenizer, batch_size: int, shuffle: bool = False
) -> LengthBatches:
    """One split of a folder, tokenized, as batches."""
    split = read_split(folder, name)
    return LengthBatches(encode(tokenizer, split.sentences), torch.tensor(split.labels), batch_size, shuffle)
