"""Text of varying length: batches in which little is padding, and arithmetic that leaves the padding out.

A mask says which tokens are real (1) and which padding (0); padding stands at the end of each text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from compress.workload import Batch
from export.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MASK = "attention_mask"
"""What transformers calls the input that marks real tokens."""

MASKED = -1e4
"""Added to the scores of padding: far below any score, and still a number in FP16 (whose least is -65504)."""


def encode(tokenizer: Tokenizer, texts: Sequence[str], longest: int) -> dict[str, Tensor]:
    """Token ids and mask (1 token, 0 padding), int64, shape (texts, tokens of the longest text).

    Args:
        tokenizer: of the package `tokenizers`.
        longest: tokens of a text, special ones included; a longer one is cut there.
    """
    tokenizer.enable_truncation(longest)
    tokenizer.enable_padding()
    encodings = tokenizer.encode_batch(list(texts))
    return {
        "input_ids": torch.tensor([encoding.ids for encoding in encodings]),
        MASK: torch.tensor([encoding.attention_mask for encoding in encodings]),
    }


def trim(inputs: Mapping[str, Tensor], generator: torch.Generator | None = None, mask: str = MASK) -> dict[str, Tensor]:
    """Cut a batch at its longest text. As every Transform it takes a generator, which it does not need.

    Args:
        inputs: those that begin with the mask's shape (batch, length) are cut, others stay.
        mask: the input of ones and zeros, integers.
    """
    length = int(inputs[mask].sum(dim=1).max())
    return {name: _cut(tensor, inputs[mask].shape, length) for name, tensor in inputs.items()}


@dataclass(frozen=True)
class LengthBatches:
    """Batches of texts of similar length, each trimmed to its longest: on SST-2 a third of the tokens of random batches.

    Shuffled, each pass draws a new order from torch's global generator, sorts it by length within pools of `pool`
    batches, and shuffles the batches; otherwise the texts are sorted by length. Every pass gives each text once.

    Args:
        inputs: the mask and what goes with it, shape (samples, length, ...), padded at the end; others, shape (samples, ...).
        target: one label a text, shape (samples,), or one a token, shape (samples, length), which is trimmed like the inputs.
        mask: name of the input that marks real tokens.

    Raises:
        InputError: if the mask is missing, has another number of samples, marks no token of a text, or pads elsewhere than at
            the end.
    """

    inputs: Mapping[str, Tensor]
    target: Tensor
    batch_size: int
    shuffle: bool = False
    pool: int = 50
    mask: str = MASK

    def __post_init__(self) -> None:
        if self.mask not in self.inputs:
            raise InputError(
                f"LengthBatches: no input '{self.mask}'; inputs: {', '.join(self.inputs)}. Name the one that marks real "
                "tokens by `mask`"
            )
        lengths = {name: len(tensor) for name, tensor in self.inputs.items()} | {"target": len(self.target)}
        if len(set(lengths.values())) != 1:
            raise InputError(f"LengthBatches: inputs and target must have the same number of samples, found {lengths}")
        _check_mask(self.inputs[self.mask], self.mask)

    @property
    def samples(self) -> int:
        return len(self.target)

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for rows in self._shuffled() if self.shuffle else self._sorted(torch.arange(self.samples)):
            inputs = {name: tensor[rows] for name, tensor in self.inputs.items()}
            length = int(inputs[self.mask].sum(dim=1).max())
            yield trim(inputs, mask=self.mask), _cut(self.target[rows], inputs[self.mask].shape, length)

    def take(self, rows: Tensor, **changes: object) -> LengthBatches:
        """The batches of a subset of samples; `changes` replaces other fields."""
        inputs = {name: tensor[rows] for name, tensor in self.inputs.items()}
        return replace(self, inputs=inputs, target=self.target[rows], **changes)  # type: ignore[arg-type]

    def without(self, other: LengthBatches) -> LengthBatches:
        """The batches of the texts that the other ones do not have; what is calibrated on must not be evaluated on."""
        known = set(other._contents())
        new = [row for row, content in enumerate(self._contents()) if content not in known]
        return self.take(torch.tensor(new, dtype=torch.int64))

    def spread(self, most: int) -> list[Batch]:
        """At most `most` texts, evenly spread over all, each a batch of its own without padding: for calibration."""
        rows = torch.linspace(0, self.samples - 1, min(most, self.samples)).round().long()
        return [batch for row in rows for batch in self.take(row[None], shuffle=False)]

    def _contents(self) -> Iterator[tuple[bytes, ...]]:
        """What tells each text from others: its inputs as far as the mask goes."""
        shape = self.inputs[self.mask].shape
        for row, length in enumerate(self.inputs[self.mask].sum(dim=1).tolist()):
            cut = (_cut(tensor[row : row + 1], torch.Size((1, *shape[1:])), length) for tensor in self.inputs.values())
            yield tuple(tensor.contiguous().numpy().tobytes() for tensor in cut)

    def _shuffled(self) -> list[Tensor]:
        pools = torch.split(torch.randperm(self.samples), self.pool * self.batch_size)
        batches = [rows for pool in pools for rows in self._sorted(pool)]
        return [batches[index] for index in torch.randperm(len(batches)).tolist()]

    def _sorted(self, rows: Tensor) -> list[Tensor]:
        by_length = self.inputs[self.mask][rows].sum(dim=1).argsort(stable=True)
        return list(torch.split(rows[by_length], self.batch_size))


def encoded(bert: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """The last hidden states of a BERT of transformers, shape (batch, length, width), in a form that exports.

    The mask that transformers builds from `attention_mask` depends on the data, which does not export with a dynamic
    length. Given the additive one, it builds none.

    Args:
        bert: a `BertModel` whose configuration has `_attn_implementation = "sdpa"`: attention then exports as one operator.
        input_ids, attention_mask: int64, shape (batch, length).
    """
    real = attention_mask.to(next(bert.parameters()).dtype)
    hidden: Tensor = bert(
        input_ids=input_ids,
        attention_mask=(1.0 - real)[:, None, None, :] * MASKED,
        token_type_ids=torch.zeros_like(input_ids),
    ).last_hidden_state
    return hidden


def mean_over_tokens(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """The mean of the real tokens' vectors: (batch, length, width) and a mask (batch, length) to (batch, width)."""
    real = attention_mask.to(hidden.dtype)
    return (hidden * real[:, :, None]).sum(dim=1) / real.sum(dim=1, keepdim=True)


def _cut(tensor: Tensor, shape: torch.Size, length: int) -> Tensor:
    return tensor[:, :length] if tensor.shape[:2] == shape else tensor


def _check_mask(mask: Tensor, name: str) -> None:
    if mask.ndim != 2:
        raise InputError(f"LengthBatches: '{name}' must have shape (samples, length), found {tuple(mask.shape)}")
    wrong = (mask[:, 1:] > mask[:, :-1]).any(dim=1) | (mask[:, :1] != 1).any(dim=1)
    if wrong.any():
        sample = int(wrong.nonzero()[0])
        raise InputError(
            f"LengthBatches: '{name}' of sample {sample} is not ones followed by zeros; pad at the end of each text, "
            "which has at least one token"
        )
