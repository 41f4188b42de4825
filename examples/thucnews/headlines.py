"""Chinese headlines from a folder of TSV files: reading, splitting, and the masking of tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from benchmarks.metrics import IGNORED
from compress.characters import SPECIAL
from compress.padded import LengthBatches, encode
from compress.workload import Batch
from export.errors import InputError

LONGEST = 40
"""Tokens; the longest headline has 33 characters, and two tokens are put around each."""

HELD_OUT = 10
"""Every tenth headline of dev.txt is validation."""

MASKED_SHARE = 0.15
"""Of the tokens, as in BERT."""

CALIBRATION_SEED, VALIDATION_SEED, TEST_SEED = 0, 1, 2
"""Of the masks that headlines get where they get the same ones each time."""

MASK_ID = SPECIAL.index("[MASK]")


@dataclass(frozen=True)
class Split:
    """Headlines and the numbers of their classes."""

    headlines: tuple[str, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Headlines:
    """What the folder holds, split: no headline of `test` is in `train` or `validation`."""

    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split


def read_headlines(folder: Path) -> Headlines:
    """Read class.txt, dev.txt (nine tenths to train on, one to validate) and test.txt."""
    classes = tuple(_lines(folder / "class.txt"))
    given, test = (_read_split(folder / f"{name}.txt", len(classes)) for name in ("dev", "test"))
    known = set(test.headlines)
    new = [pair for pair in zip(given.headlines, given.labels, strict=True) if pair[0] not in known]
    train = [pair for place, pair in enumerate(new) if place % HELD_OUT]
    return Headlines(classes, _split(train), _split(new[::HELD_OUT]), test)


def label_batches(tokenizer: Tokenizer, split: Split, batch_size: int, shuffle: bool = False) -> LengthBatches:
    """Headlines with their classes as target."""
    return LengthBatches(
        encode(tokenizer, split.headlines, LONGEST), torch.tensor(split.labels), batch_size, shuffle=shuffle
    )


@dataclass(frozen=True)
class MaskedBatches:
    """Headlines with masked tokens, anew at every pass; the target is what stood there, IGNORED everywhere else.

    Args:
        whole: the headlines; their order and the masks are drawn from torch's global generator.
        words: size of the vocabulary.
    """

    whole: LengthBatches
    words: int

    @property
    def samples(self) -> int:
        return self.whole.samples

    def __len__(self) -> int:
        return len(self.whole)

    def __iter__(self) -> Iterator[Batch]:
        for inputs, _ in self.whole:
            ids, target = mask_tokens(inputs["input_ids"], self.words)
            yield {**inputs, "input_ids": ids}, target


def masked_once(tokenizer: Tokenizer, split: Split, batch_size: int, seed: int) -> LengthBatches:
    """Headlines with the same tokens masked at every pass, for validation and evaluation."""
    inputs = encode(tokenizer, split.headlines, LONGEST)
    generator = torch.Generator().manual_seed(seed)
    ids, target = mask_tokens(inputs["input_ids"], tokenizer.get_vocab_size(), generator)
    return LengthBatches({**inputs, "input_ids": ids}, target, batch_size)


def mask_tokens(ids: Tensor, words: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Token ids with some tokens masked, and the target: the tokens that stood there, IGNORED elsewhere.

    Of the tokens MASKED_SHARE are drawn, at least one of each row; four fifths of them become [MASK], a tenth any token,
    a tenth stay. Special tokens are never drawn, nor is what the vocabulary does not know.

    Args:
        ids: int64, shape (batch, length).
        words: size of the vocabulary.

    Source: Devlin et al. 2018, arXiv:1810.04805, section 3.1.
    """
    known = ids >= len(SPECIAL)
    chance = torch.rand(ids.shape, generator=generator).masked_fill(~known, 1.0)
    chosen = known & ((chance < MASKED_SHARE) | (chance == chance.amin(dim=1, keepdim=True)))
    how = torch.rand(ids.shape, generator=generator)
    other = torch.randint(len(SPECIAL), words, ids.shape, generator=generator)
    masked = torch.where(chosen & (how < 0.8), MASK_ID, ids)
    masked = torch.where(chosen & (how >= 0.9), other, masked)
    return masked, torch.where(chosen, ids, IGNORED)


def _read_split(path: Path, classes: int) -> Split:
    pairs = [_parse(path, number, line, classes) for number, line in enumerate(_lines(path), start=1)]
    return _split(pairs)


def _parse(path: Path, number: int, line: str, classes: int) -> tuple[str, int]:
    headline, tab, label = line.rpartition("\t")
    if not tab or not headline.strip() or not label.isdecimal() or int(label) >= classes:
        raise InputError(
            f"{path}:{number}: found {line!r}; each line must be a headline, a tab, and the number of its class, "
            f"from 0 to {classes - 1} (the lines of class.txt)"
        )
    return headline.strip(), int(label)


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError(
            f"examples/thucnews: {path} is missing; the folder must hold class.txt (a name a line), dev.txt and test.txt "
            "(each line a headline, a tab, and the number of its class); name it with --set arguments.data=FOLDER"
        )
    lines = path.read_text(encoding="utf-8").splitlines()
    if not lines:
        raise InputError(f"{path}: holds no line; it must hold at least one")
    return lines


def _split(pairs: list[tuple[str, int]]) -> Split:
    return Split(tuple(headline for headline, _ in pairs), tuple(label for _, label in pairs))
