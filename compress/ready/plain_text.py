"""Running text as token ids, in windows: what causal and masked language models learn from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from compress.ready import ReadyContext
from compress.ready.tables import split_files
from compress.workload import Batch, TensorBatches
from export.errors import InputError

ENDINGS = (".txt",)
PART = 0.05
"""Of a single file at its end, for validation and for evaluation each."""


def read_texts(path: Path, context: ReadyContext, option: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """The text of each split, and what is to be told.

    A folder holds train.txt and may hold validation.txt and test.txt; a single file is cut at the ends of lines.

    Raises:
        InputError: if a file is no UTF-8 text, or too short to be cut.
    """
    files = split_files(path, ENDINGS, context, option)
    texts, told = {name: _text(file) for name, file in files.items()}, []
    if "evaluation" not in texts and "validation" in texts:
        texts["evaluation"] = texts.pop("validation")
        told.append(f"{path.name}: there is no test file; the validation file serves for evaluation")
    missing = [name for name in ("validation", "evaluation") if name not in texts]
    if missing:
        pieces = _cut(texts["train"], len(missing), files["train"])
        texts |= dict(zip(["train", *missing], pieces, strict=True))
        told.append(
            f"{path.name}: the last {PART * len(missing):.0%} of the training text is held out for {' and '.join(missing)}"
        )
    return texts, tuple(told)


def windows(tokens: Tensor, length: int, what: str) -> Tensor:
    """Windows of `length` tokens that follow on each other, shape (windows, length).

    Raises:
        InputError: if the text is too short for one; `what` says which.
    """
    count = len(tokens) // length
    if count < 1:
        raise InputError(
            f"{what}: {len(tokens)} tokens are no window of {length}; give more text, or a smaller max_length"
        )
    return tokens[: count * length].reshape(count, length)


def next_tokens(tokens: Tensor, length: int, batch_size: int, what: str) -> TensorBatches:
    """Windows, and as target the token after each, both (windows, length).

    Raises:
        InputError: as `windows`.
    """
    given = windows(tokens[:-1], length, what)
    following = tokens[1 : given.numel() + 1].reshape(given.shape)
    return TensorBatches({"input_ids": given}, following, batch_size)


@dataclass(frozen=True)
class ShiftedWindows:
    """Windows to learn from: every pass cuts the text anew, beginning a few tokens later, and shuffles them.

    Drawn from torch's global generator, which the training seeds for every pass.

    Args:
        tokens: of the whole text, more than two windows.
    """

    tokens: Tensor
    length: int
    batch_size: int

    @property
    def samples(self) -> int:
        return (len(self.tokens) - self.length) // self.length

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        first = int(torch.randint(self.length, ()))
        starts = first + self.length * torch.randperm(self.samples)
        for rows in torch.split(starts, self.batch_size):
            cut = self.tokens[rows[:, None] + torch.arange(self.length + 1)]
            yield {"input_ids": cut[:, :-1].contiguous()}, cut[:, 1:].contiguous()


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def _cut(text: str, parts: int, file: Path) -> list[str]:
    """The text without its last parts, and those; cut at the ends of lines."""
    shares = [1 - PART * (parts - number) for number in range(parts)]
    places = [0, *(text.rfind("\n", 0, int(len(text) * share)) + 1 for share in shares), len(text)]
    pieces = [text[first:last] for first, last in pairwise(places)]
    if not all(pieces) or places != sorted(places):
        raise InputError(f"{file}: {len(text):,} characters in too few lines to hold some out; give more text")
    return pieces
