"""Text from a language model: its parts called one after the other, with their caches, until the answer is whole.

A decoder takes the tokens that are new to it and the keys and values of those before (`past_key.N`, `past_value.N`), and
gives logits and the keys and values of all (`present_key.N`, `present_value.N`). An encoder, where there is one, gives the
keys and values that the decoder's cross-attention reads at every step (`cross_key.N`, `cross_value.N`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from export.errors import InputError
from export.model import TensorSpec
from targets.beams import Beams
from targets.sampling import Pick

if TYPE_CHECKING:
    from typing import Self

    from targets.base import Arrays, Engine, Session

Mode = Literal["score", "write"]


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


class GenerationSession:
    """The sessions of a model's parts as one: prompts in, answers out.

    `run` takes what the first part takes (`input_ids`, and `attention_mask` of an encoder), without caches. `padding`, shape
    (batch,), counts the padding tokens in front of each prompt of a decoder; without it there are none.

    Args:
        sessions: "decoder", and "encoder" where there is one.
        decoder: inputs of the decoder.
    """

    def __init__(self, sessions: Mapping[str, Session], decoder: Sequence[TensorSpec], generation: Generation) -> None:
        self._sessions = sessions
        self._names = frozenset(spec.name for spec in decoder)
        self._caches = tuple(spec for spec in decoder if spec.name.startswith("past_"))
        self._generation = generation

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """`tokens`, int64 of shape (batch, new_tokens), or `logits` in mode "score".

        Raises:
            InputError: if `input_ids` is not among the inputs.
        """
        if "input_ids" not in inputs:
            raise InputError(f"generation: found inputs {', '.join(inputs)}; allowed: input_ids (and attention_mask)")
        if self._generation.mode == "score":
            return {"logits": self._score(inputs)}
        state, tokens = self._begin(inputs)
        logits, state = self._step(tokens, state)
        if self._generation.beams > 1:
            return {"tokens": self._with_beams(logits, state)}
        return {"tokens": self._one_by_one(logits, state)}

    def go_on(self, inputs: Mapping[str, np.ndarray], tokens: np.ndarray) -> np.ndarray:
        """Logits of `tokens`, int64 (batch, length), read at once after a prompt: shape (batch, length, vocabulary)."""
        state, first = self._begin(inputs)
        _, state = self._step(first, state)
        return self._call(tokens, state)["logits"]

    def steps(self, inputs: Mapping[str, np.ndarray], tokens: np.ndarray) -> np.ndarray:
        """Logits from which each of `tokens`, int64 (batch, length), is chosen when those before it are given one by one.

        Returns:
            float64 of shape (batch, length, vocabulary).
        """
        state, first = self._begin(inputs)
        logits, state = self._step(first, state)
        found = [logits]
        for place in range(tokens.shape[1] - 1):
            logits, state = self._step(tokens[:, place, None], state)
            found.append(logits)
        return np.stack(found, axis=1)

    def _score(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Logits, shape (batch, length, vocabulary): of `decoder_input_ids` after an encoder, else of `input_ids`."""
        state, tokens = self._begin(inputs)
        return self._call(inputs.get("decoder_input_ids", tokens), state)["logits"]

    def _begin(self, inputs: Mapping[str, np.ndarray]) -> tuple[Arrays, np.ndarray]:
        """What the decoder reads besides tokens at its first step, and those tokens."""
        tokens = np.asarray(inputs["input_ids"])
        batch = len(tokens)
        state = {spec.name: _empty(spec, batch) for spec in self._caches}
        if "encoder" in self._sessions:
            state.update(
                self._sessions["encoder"].run({name: inputs[name] for name in ("input_ids", "attention_mask")})
            )
            state["attention_mask"] = inputs["attention_mask"]
            start = self._generation.start
            assert start is not None, "an encoder-decoder has a start token"
            return state, np.full((batch, 1), start, dtype=np.int64)
        if "padding" in self._names:
            state["padding"] = inputs.get("padding", np.zeros(batch, dtype=np.int64))
        return state, tokens

    def _call(self, tokens: np.ndarray, state: Arrays) -> Arrays:
        return self._sessions["decoder"].run({"input_ids": np.ascontiguousarray(tokens), **state})

    def _step(self, tokens: np.ndarray, state: Arrays) -> tuple[np.ndarray, Arrays]:
        """Logits of the last position, float64 of shape (batch, vocabulary), and the state after `tokens`."""
        outputs = self._call(tokens, state)
        present = {name.replace("present_", "past_", 1): array for name, array in outputs.items() if name != "logits"}
        return outputs["logits"][:, -1].astype(np.float64), {**state, **present}

    def _one_by_one(self, logits: np.ndarray, state: Arrays) -> np.ndarray:
        generation = self._generation
        pick = Pick(generation.temperature, generation.top_k, generation.seed)
        tokens = np.full((len(logits), generation.new_tokens), generation.padding, dtype=np.int64)
        open_ = np.ones(len(logits), dtype=bool)
        for place in range(generation.new_tokens):
            chosen = np.where(open_, pick(logits), generation.padding)
            tokens[:, place] = chosen
            if generation.stops:
                open_ &= chosen != generation.end
            if place + 1 == generation.new_tokens or not open_.any():
                break
            logits, state = self._step(chosen[:, None], state)
        return tokens

    def _with_beams(self, logits: np.ndarray, state: Arrays) -> np.ndarray:
        generation = self._generation
        beams = Beams(len(logits), generation)
        rows = beams.advance(np.repeat(logits, generation.beams, axis=0))
        state = {name: np.repeat(array, generation.beams, axis=0)[rows] for name, array in state.items()}
        moving = [spec.name for spec in self._caches]
        while not beams.done:
            logits, state = self._step(beams.last[:, None], state)
            rows = beams.advance(logits)
            # What an encoder gave and what says where the prompt begins are the same for all beams of a prompt.
            state = {name: array[rows] if name in moving else array for name, array in state.items()}
        return beams.best()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for session in self._sessions.values():
            session.__exit__(kind, error, trace)


def writing(engine: Engine, **changes: Any) -> Engine:
    """The same artifact, answering otherwise: `mode`, `new_tokens`, `stops` and the rest of Generation's fields."""
    assert engine.generation is not None, f"{engine.target}/{engine.scheme} does not generate"
    generation = replace(engine.generation, **changes)
    return replace(engine, generation=generation, outputs=(generation.output(engine.parts["decoder"].outputs),))


def _empty(spec: TensorSpec, batch: int) -> np.ndarray:
    """A cache of no token: every dynamic axis besides the batch is 0 long."""
    shape = spec.concrete({axis: batch if axis == "batch" else 0 for axis in spec.shape if isinstance(axis, str)})
    return np.zeros(shape, dtype=spec.dtype)
