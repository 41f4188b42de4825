"""Sentence pairs of two languages as tokens of one vocabulary: batches to learn from, prompts to judge on."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from compress.ready.translation import PairBatches, sources
from compress.workload import Batch, TensorBatches
from export.errors import InputError

PADDING, END, START = "<pad>", "<end>", "<start>"
WORDS = 8000
"""Of the vocabulary that both languages share."""
LONGEST = 48
"""Tokens of a sentence; longer ones, of which Multi30k has next to none, are cut."""


@dataclass(frozen=True)
class Split:
    """Sentences of the source and of the target language, in pairs."""

    source: tuple[str, ...]
    target: tuple[str, ...]


def read_split(folder: Path, name: str, source: str = "en", target: str = "de") -> Split:
    """Read `NAME.en.gz` and `NAME.de.gz`, one sentence a line."""
    sides = []
    for language in (source, target):
        path = folder / f"{name}.{language}.gz"
        if not path.is_file():
            raise InputError(
                f"examples/multi30k: {path} is missing; the folder must hold train, val and test_2016_flickr as NAME.en.gz and "
                "NAME.de.gz, one sentence a line (github.com/multi30k/dataset, task 1 raw); name it with --set arguments.data=FOLDER"
            )
        sides.append(tuple(line.strip() for line in gzip.decompress(path.read_bytes()).decode().splitlines()))
    if len(sides[0]) != len(sides[1]):
        raise InputError(f"{folder}: {name} has {len(sides[0])} sentences in {source} and {len(sides[1])} in {target}")
    return Split(*sides)


def train_tokenizer(split: Split, words: int = WORDS) -> Tokenizer:
    """Byte-level byte-pair encoding of both languages together (Sennrich et al. 2016, arXiv:1508.07909)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=words,
        special_tokens=[PADDING, END, START],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*split.source, *split.target], trainer)
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer.json that train.py writes beside the weights."""
    if not path.is_file():
        raise InputError(f"examples/multi30k: {path} is missing; train.py writes it beside the weights")
    return Tokenizer.from_file(str(path))


@dataclass(frozen=True)
class Decode:
    """A row of token ids to text: what stands before the end token, without special tokens."""

    tokenizer: Tokenizer

    def __call__(self, ids: Sequence[int]) -> str:
        end = self.tokenizer.token_to_id(END)
        kept = list(ids)[: list(ids).index(end)] if end in ids else ids
        return str(self.tokenizer.decode(list(kept), skip_special_tokens=True)).strip()


def _ids(tokenizer: Tokenizer, sentences: Sequence[str]) -> list[list[int]]:
    """Token ids of each sentence with the end token."""
    end = tokenizer.token_to_id(END)
    encoded = tokenizer.encode_batch(list(sentences))
    return [[*encoding.ids[: LONGEST - 1], end] for encoding in encoded]


def pair_batches(tokenizer: Tokenizer, split: Split, batch_size: int, shuffle: bool = False) -> PairBatches:
    """A split as batches."""
    padding, start = (tokenizer.token_to_id(token) for token in (PADDING, START))
    return PairBatches(
        _ids(tokenizer, split.source), _ids(tokenizer, split.target), padding, start, batch_size, shuffle
    )


def prompts(tokenizer: Tokenizer, split: Split, first_reference: int, batch_size: int = 20) -> list[Batch]:
    """A split's sources in batches of similar length; targets number the references from `first_reference` on."""
    padding, source = tokenizer.token_to_id(PADDING), _ids(tokenizer, split.source)
    order = torch.tensor([len(ids) for ids in source]).argsort(stable=True)
    batches: list[Batch] = []
    for rows in torch.split(order, batch_size):
        batches.append((sources([source[row] for row in rows.tolist()], padding), rows + first_reference))
    return batches


def calibration_pairs(pairs: PairBatches, samples: int) -> TensorBatches:
    """Pairs evenly spread over a split, cut to one length so that they make tensors."""
    rows = torch.linspace(0, pairs.samples - 1, samples).long().tolist()
    inputs, target = pairs.batch(rows)
    return TensorBatches(inputs, target, batch_size=1)
