"""Text from a language model: its parts called one after the other, with their caches, until the answer is whole.

A decoder takes the tokens that are new to it and the keys and values of those before (`past_key.N`, `past_value.N`), and
gives logits and the keys and values of all (`present_key.N`, `present_value.N`), or keeps them itself. An encoder, where
there is one, gives the keys and values that the decoder's cross-attention reads at every step (`cross_key.N`,
`cross_value.N`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from export.model import TensorSpec

Mode = Literal["score", "write"]

SOURCE_TOKENS = "input_ids"
"""The input that holds a text, one integer a token: of a decoder always, of an encoder where its source is a text."""

OF_THE_ANSWER = "decoder_"
"""How the inputs begin that a whole forward gives to the decoder behind an encoder; what else it takes is the source."""


def prompt_length(inputs: Mapping[str, Any]) -> int | None:
    """Tokens of the prompts in a batch, arrays or tensors by name; None where the source is no text: a picture, sound."""
    tokens = inputs.get(SOURCE_TOKENS)
    return None if tokens is None else int(tokens.shape[1])


@dataclass(frozen=True)
class Generation:
    """How the parts of a model write an answer.

    Args:
        end: the token that ends an answer.
        padding: the token that fills an answer up after its end.
        start: the first token of the decoder of an encoder-decoder; None where the prompt itself is gone on with.
        new_tokens: of an answer, at most.
        beams: answers followed side by side; the best is given. 1: only the likeliest next token (greedy).
        length_penalty: power of the length by which a beam's log-probability is divided; 0 favours short answers, 1 the mean.
        temperature: above 0 the next token is drawn from the softmax of logits / temperature; with one beam.
        top_k: draw among the likeliest k; 0 among all.
        seed: of the draws; the same prompt gives the same answer.
        stops: an answer ends at `end`. False writes `new_tokens` whatever comes: work of the same amount, for timing.
        mode: "write" gives `tokens`, shape (batch, new_tokens); "score" gives the logits of the given tokens, without a loop.
    """

    end: int
    padding: int
    start: int | None = None
    new_tokens: int = 64
    beams: int = 1
    length_penalty: float = 1.0
    temperature: float = 0.0
    top_k: int = 0
    seed: int = 0
    stops: bool = True
    mode: Mode = "write"

    def __post_init__(self) -> None:
        if self.new_tokens < 1 or self.beams < 1:
            raise ValueError(
                f"new_tokens and beams: found {self.new_tokens} and {self.beams}, allowed: 1 or more of each"
            )
        if self.temperature > 0 and self.beams > 1:
            raise ValueError(f"temperature: found {self.temperature:g} with {self.beams} beams, allowed: with one beam")

    def output(self, decoder: Sequence[TensorSpec]) -> TensorSpec:
        """What a session on the parts gives.

        Args:
            decoder: outputs of the decoder.
        """
        if self.mode == "write":
            return TensorSpec("tokens", "int64", ("batch", self.new_tokens))
        return next(spec for spec in decoder if spec.name == "logits")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Generation:
        return cls(**value)
