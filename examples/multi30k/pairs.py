"""Sentence pairs of two languages as tokens of one vocabulary: batches to learn from, prompts to judge on."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from benchmarks.metrics import IGNORED
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


def _ids(tokenizer: Tokenizer, sentences: Sequence[str]) -> list[Tensor]:
    """Token ids of each sentence with the end token."""
    end = tokenizer.token_to_id(END)
    encoded = tokenizer.encode_batch(list(sentences))
    return [torch.tensor([*encoding.ids[: LONGEST - 1], end]) for encoding in encoded]


@dataclass(frozen=True)
class PairBatches:
    """Batches of pairs of similar length, padded at the end: what the whole forward of an encoder-decoder is trained on.

    Inputs `input_ids`, `attention_mask` (1 token, 0 padding) and `decoder_input_ids` (the start token, then the answer), target
    the answer with its end token, IGNORED behind it. Shuffled, each pass draws a new order from torch's global generator.
    """

    source: Sequence[Tensor]
    answer: Sequence[Tensor]
    padding: int
    start: int
    batch_size: int
    shuffle: bool = False
    pool: int = 50

    @property
    def samples(self) -> int:
        return len(self.source)

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        pools = [torch.arange(self.samples)]
        if self.shuffle:
            pools = list(torch.split(torch.randperm(self.samples), self.pool * self.batch_size))
        batches = [rows for pool in pools for rows in self._by_length(pool)]
        order = torch.randperm(len(batches)).tolist() if self.shuffle else range(len(batches))
        for index in order:
            yield self.batch(batches[index].tolist())

    def batch(self, rows: Sequence[int]) -> Batch:
        """The pairs of these numbers."""
        source = pad_sequence([self.source[row] for row in rows], True, self.padding)
        answers = [self.answer[row] for row in rows]
        target = pad_sequence(answers, True, IGNORED)
        start = torch.tensor([self.start])
        given = pad_sequence([torch.cat([start, answer[:-1]]) for answer in answers], True, self.padding)
        mask = (source != self.padding).long()
        return {"input_ids": source, "attention_mask": mask, "decoder_input_ids": given}, target

    def _by_length(self, pool: Tensor) -> list[Tensor]:
        lengths = torch.tensor([len(self.source[row]) + len(self.answer[row]) for row in pool.tolist()])
        return list(torch.split(pool[lengths.argsort(stable=True)], self.batch_size))


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
        ids = pad_sequence([source[row] for row in rows.tolist()], True, padding)
        batches.append(({"input_ids": ids, "attention_mask": (ids != padding).long()}, rows + first_reference))
    return batches


def calibration_pairs(pairs: PairBatches, samples: int) -> TensorBatches:
    """Pairs evenly spread over a split, cut to one length so that they make tensors."""
    rows = torch.linspace(0, pairs.samples - 1, samples).long().tolist()
    inputs, target = pairs.batch(rows)
    return TensorBatches(inputs, target, batch_size=1)
