"""A session on the parts of a model that writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from export.errors import InputError
from export.model import TensorSpec
from targets.generation import OF_THE_ANSWER, Generation
from targets.generation.beams import Beams
from targets.generation.decoder import decoder_on
from targets.generation.sampling import Pick

if TYPE_CHECKING:
    from typing import Self

    from targets.base import Arrays, Engine, Session


class GenerationSession:
    """The sessions of a model's parts as one: prompts in, answers out.

    `run` takes what the first part takes, without caches: `input_ids` of a decoder by itself, whatever an encoder reads of one
    (`input_ids` and `attention_mask`, or a picture). `padding`, shape (batch,), counts the padding tokens in front of each prompt
    of a decoder; without it there are none. `decoder_input_ids` are the tokens that mode "score" judges behind an encoder.

    Args:
        sessions: "decoder", and "encoder" where there is one.
        decoder: inputs of the decoder.
    """

    def __init__(self, sessions: Mapping[str, Session], decoder: Sequence[TensorSpec], generation: Generation) -> None:
        self._sessions = sessions
        self._names = frozenset(spec.name for spec in decoder)
        self._decoder = decoder_on(sessions["decoder"], decoder)
        self._generation = generation

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """`tokens`, int64 of shape (batch, new_tokens), or `logits` in mode "score".

        Raises:
            InputError: if there is nothing to go on with among the inputs.
        """
        if not self._source(inputs):
            meant = "what the encoder reads" if "encoder" in self._sessions else "input_ids"
            raise InputError(f"generation: found inputs {', '.join(inputs) or 'none'}; needs {meant}")
        if self._generation.mode == "score":
            first = self._begin(inputs)
            tokens = inputs.get("decoder_input_ids", first)
            return {"logits": self._decoder.read(tokens, tokens.shape[1])}
        if self._generation.beams > 1:
            return {"tokens": self._with_beams(inputs)}
        return {"tokens": self._one_by_one(self._step(self._begin(inputs)))}

    def go_on(self, inputs: Mapping[str, np.ndarray], tokens: np.ndarray) -> np.ndarray:
        """Logits of `tokens`, int64 (batch, length), read at once after a prompt: shape (batch, length, vocabulary)."""
        self._decoder.read(self._begin(inputs), kept=1)
        return self._decoder.read(tokens, tokens.shape[1])

    def steps(self, inputs: Mapping[str, np.ndarray], tokens: np.ndarray) -> np.ndarray:
        """Logits from which each of `tokens`, int64 (batch, length), is chosen when those before it are given one by one.

        Returns:
            float64 of shape (batch, length, vocabulary).
        """
        found = [self._step(self._begin(inputs))]
        found += [self._step(tokens[:, place, None]) for place in range(tokens.shape[1] - 1)]
        return np.stack(found, axis=1).astype(np.float64)

    def _begin(self, inputs: Mapping[str, np.ndarray], copies: int = 1) -> np.ndarray:
        """Give the decoder what it reads besides tokens; the tokens that it reads first.

        Args:
            copies: rows of the decoder for each prompt of an encoder.
        """
        source, constant = self._source(inputs), dict[str, np.ndarray]()
        batch = len(next(iter(source.values())))
        if "encoder" in self._sessions:
            read_again = {name: array for name, array in source.items() if name in self._names - {"input_ids"}}
            constant = {**self._sessions["encoder"].run(source), **read_again}
            if copies > 1:
                constant = {name: np.repeat(array, copies, axis=0) for name, array in constant.items()}
            start = self._generation.start
            assert start is not None, "an encoder-decoder has a start token"
            batch *= copies
            tokens = np.full((batch, 1), start, dtype=np.int64)
        else:
            tokens = np.asarray(source["input_ids"])
            if "padding" in self._names:
                constant = {"padding": inputs.get("padding", np.zeros(batch, dtype=np.int64))}
        self._decoder.begin(constant, batch)
        return tokens

    def _source(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """What of the inputs the first part reads."""
        if "encoder" in self._sessions:
            return {name: array for name, array in inputs.items() if not name.startswith(OF_THE_ANSWER)}
        return {name: inputs[name] for name in ("input_ids",) if name in inputs}

    def _step(self, tokens: np.ndarray) -> np.ndarray:
        """Logits of the last position, shape (batch, vocabulary)."""
        return self._decoder.read(tokens, kept=1)[:, -1]

    def _one_by_one(self, logits: np.ndarray) -> np.ndarray:
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
            logits = self._step(chosen[:, None])
        return tokens

    def _with_beams(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        width = self._generation.beams
        beams = Beams(len(next(iter(self._source(inputs).values()))), self._generation)
        if "encoder" in self._sessions:
            # Each beam has its row from the first, short step on: what the encoder gave is bound once, in one shape.
            logits = self._step(self._begin(inputs, copies=width))
            self._decoder.go_on_from(beams.advance(logits))
        else:
            # A prompt is read once, and all its beams go on from its one row.
            logits = self._step(self._begin(inputs))
            self._decoder.go_on_from(beams.advance(np.repeat(logits, width, axis=0)) // width)
        while not beams.done:
            self._decoder.go_on_from(beams.advance(self._step(beams.last[:, None])))
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
