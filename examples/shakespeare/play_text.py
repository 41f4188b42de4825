"""One file of plain text as tokens: byte-pair encoding trained on the text itself, cut into windows to learn and to judge on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from compress.workload import TensorBatches
from export.errors import InputError

PADDING, END = "<pad>", "<end>"
WORDS = 2048
"""Of the vocabulary: a window of 128 tokens is then about 400 characters of English."""
WINDOW = 128
"""Tokens that are predicted in a window, each from those before it in the window."""
VALIDATION = EVALUATION = 0.05
"""Shares of the text at its end: first the validation part, then the evaluation part."""


@dataclass(frozen=True)
class Parts:
    """The text's three parts in the order in which they stand in it."""

    train: str
    validation: str
    evaluation: str


def read_parts(path: Path) -> Parts:
    """The text of a UTF-8 file, cut at the ends of lines."""
    if not path.is_file():
        raise InputError(
            f"examples/shakespeare: {path} is missing; it must be a plain text of a megabyte or so, for instance Karpathy's "
            "tinyshakespeare (input.txt); name it with --set arguments.data=FILE"
        )
    text = path.read_text(encoding="utf-8")
    cuts = [text.rfind("\n", 0, int(len(text) * share)) + 1 for share in (1 - VALIDATION - EVALUATION, 1 - EVALUATION)]
    if not 0 < cuts[0] < cuts[1] < len(text):
        raise InputError(
            f"{path}: {len(text)} characters in too few lines; a text of at least 100,000 characters is needed"
        )
    return Parts(text[: cuts[0]], text[cuts[0] : cuts[1]], text[cuts[1] :])


def train_tokenizer(text: str, words: int = WORDS) -> Tokenizer:
    """Byte-level byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909): every text is spelled, and read back as it was."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=words, special_tokens=[PADDING, END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer.json that train.py writes beside the weights."""
    if not path.is_file():
        raise InputError(f"examples/shakespeare: {path} is missing; train.py writes it beside the weights")
    return Tokenizer.from_file(str(path))


def encode(tokenizer: Tokenizer, text: str) -> Tensor:
    """Token ids, int64 of shape (tokens,)."""
    return torch.tensor(tokenizer.encode(text).ids)


def windows(tokens: Tensor, batch_size: int, length: int = WINDOW) -> TensorBatches:
    """Windows that follow on each other: `input_ids` and as target the token after each, both (windows, length)."""
    count = (len(tokens) - 1) // length
    if count < 1:
        raise InputError(f"examples/shakespeare: {len(tokens)} tokens are no window of {length}; the text is too short")
    given, following = tokens[: count * length], tokens[1 : count * length + 1]
    return TensorBatches({"input_ids": given.reshape(count, length)}, following.reshape(count, length), batch_size)
