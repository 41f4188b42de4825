"""Encoders of transformers (BERT and its kin) called so that they export with a dynamic length, and answer as they do themselves."""

from __future__ import annotations

import inspect
from typing import Literal

import torch
from torch import Tensor, nn

from compress.generation.transformers_parts import additive
from compress.ready import ReadyContext

Form = Literal["additive", "as it is"]

CLOSE = 1e-4
"""Relative to the largest logit; the two ways of masking differ by less than 1e-6 where a network takes both."""
TOKENS, PADDED = 9, 4
"""Of the texts on which the two are compared."""


class EncoderLogits(nn.Module):
    """Logits of `input_ids` and `attention_mask` (1 token, 0 padding), and of `token_type_ids` for pairs; all int64 (batch, length).

    Args:
        model: of transformers, with a head on an encoder.
        mask: "additive" gives the network what is added to its scores, which stays finite in FP16; "as it is" leaves that to
            the network.
    """

    def __init__(self, model: nn.Module, mask: Form) -> None:
        super().__init__()
        self.model, self.mask = model, mask
        self.types = takes_types(model)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        mask = additive(attention_mask) if self.mask == "additive" else attention_mask
        kinds = {}
        if self.types:
            kinds["token_type_ids"] = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        logits: Tensor = self.model(input_ids=input_ids, attention_mask=mask, **kinds).logits
        return logits


def takes_types(model: nn.Module) -> bool:
    """Whether the network tells the two texts of a pair apart by token types."""
    known = getattr(model.config, "type_vocab_size", 0)
    return "token_type_ids" in inspect.signature(model.forward).parameters and isinstance(known, int) and known > 1


def encoder_logits(model: nn.Module, padding: int, context: ReadyContext, option: str) -> EncoderLogits:
    """The model with the first form of mask under which it answers as by itself, measured on texts with padding.

    Args:
        padding: the token behind the shorter text.

    Raises:
        InputError: if it takes no mask as transformers' encoders do.
    """
    words = int(getattr(model.config, "vocab_size", 2))
    ids = torch.randint(0, words, (2, TOKENS), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    ids[1, -PADDED:], mask[1, -PADDED:] = padding, 0
    try:
        with torch.no_grad():
            expected = model(input_ids=ids, attention_mask=mask).logits
            forms: tuple[Form, ...] = ("additive", "as it is")
            made = [EncoderLogits(model, form).eval() for form in forms]
            for each in made:
                if _agree(each, ids, mask, expected):
                    return each
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
        raise context.refusal(
            option, f"the model cannot be called as an encoder: {type(error).__name__}: {error}"
        ) from error
    raise context.refusal(
        option, "the model's answers depend on more than token ids and mask; write a workload in Python"
    )


def _agree(model: EncoderLogits, ids: Tensor, mask: Tensor, expected: Tensor) -> bool:
    """Whether the logits are the expected ones where they count: one row a text, or one a token that is no padding."""
    try:
        found = model(ids, mask)
    except (ValueError, RuntimeError, IndexError):
        return False
    counted = mask.bool() if expected.ndim == 3 else slice(None)
    return bool((found - expected)[counted].abs().max() <= CLOSE * expected[counted].abs().max().clamp(min=1e-3))
