"""The decoder of a model that writes, as the loop sees it: tokens in, logits out, and a cache that follows the beams.

Most runtimes are given the cache at every call and give it back with the new tokens in it (`Handed`); one that keeps it
itself is told which row each row goes on from (`Kept`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from export.model import TensorSpec
from targets.generation.cached_attention import PAST, PRESENT

if TYPE_CHECKING:
    from targets.base import Arrays, Engine, Profile, Session

ROWS = "beam_idx"
"""Input of a decoder that keeps its cache: for each row the row of the last call that it goes on from, (batch,)."""
WANTED = "wanted"
"""Input whose shape (batch, kept) says of how many of the last tokens a decoder gives logits; without it, of all."""


class Decoder(Protocol):
    """Reads tokens one call after the other; each call follows on those since `begin`."""

    def begin(self, constant: Arrays, batch: int) -> None:
        """Forget everything. `constant` is what every call reads besides tokens and cache."""

    def read(self, tokens: np.ndarray, kept: int) -> np.ndarray:
        """Logits of the last `kept` of the next tokens, int64 (batch, length): shape (batch, kept, vocabulary)."""

    def go_on_from(self, rows: np.ndarray) -> None:
        """The next call's rows go on from these rows of the last one; there may be another number of them."""


class StatefulSession(Protocol):
    """A session on a decoder that keeps its cache from call to call, and takes `beam_idx`."""

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays: ...

    def forget(self) -> None:
        """Empty the cache."""


class StatefulTarget(Protocol):
    """A target whose decoders keep their cache: what a call takes depends on how many tokens are in it."""

    def profile_behind(
        self, past: int, engine: Engine, inputs: Mapping[str, np.ndarray], threads: int, runs: int
    ) -> Profile:
        """As `Target.profile`, with the cache of `past` tokens, a few more or less, before each call."""


def decoder_on(session: Session, inputs: Sequence[TensorSpec]) -> Decoder:
    """The decoder behind a session, by the inputs that it takes."""
    wanted = _Wanted(any(spec.name == WANTED for spec in inputs))
    if any(spec.name == ROWS for spec in inputs):
        return Kept(cast("StatefulSession", session), wanted)
    return Handed(session, [spec for spec in inputs if spec.name.startswith(PAST)], wanted)


class _Wanted:
    """The input that says of how many last tokens logits are wanted, where a decoder has it; the same array while its shape
    stays, so that it stays bound."""

    def __init__(self, taken: bool) -> None:
        self._taken = taken
        self._array = np.zeros((0, 0), dtype=np.int64)

    def of(self, batch: int, kept: int) -> Arrays:
        if not self._taken:
            return {}
        if self._array.shape != (batch, kept):
            self._array = np.zeros((batch, kept), dtype=np.int64)
        return {WANTED: self._array}


class Handed:
    """A decoder that takes its cache and gives it back.

    Args:
        caches: those of its inputs.
    """

    def __init__(self, session: Session, caches: Sequence[TensorSpec], wanted: _Wanted) -> None:
        self._session, self._caches, self._wanted = session, caches, wanted
        self._constant: Arrays = {}
        self._cache: Arrays = {}

    def begin(self, constant: Arrays, batch: int) -> None:
        self._constant = constant
        self._cache = {spec.name: _empty(spec, batch) for spec in self._caches}

    def read(self, tokens: np.ndarray, kept: int) -> np.ndarray:
        given = {"input_ids": np.ascontiguousarray(tokens), **self._wanted.of(len(tokens), kept)}
        outputs = self._session.run({**given, **self._constant, **self._cache})
        self._cache = {
            name.replace(PRESENT, PAST, 1): array for name, array in outputs.items() if name.startswith(PRESENT)
        }
        return outputs["logits"][:, -kept:]

    def go_on_from(self, rows: np.ndarray) -> None:
        self._constant = _of_rows(self._constant, rows)
        self._cache = {name: array[rows] for name, array in self._cache.items()}


class Kept:
    """A decoder whose session keeps the cache."""

    def __init__(self, session: StatefulSession, wanted: _Wanted) -> None:
        self._session, self._wanted = session, wanted
        self._constant: Arrays = {}
        self._tokens = np.zeros((0, 0), dtype=np.int64)
        self._rows = np.zeros(0, dtype=np.int32)

    def begin(self, constant: Arrays, batch: int) -> None:
        self._session.forget()
        self._constant = constant
        self._rows = _written(self._rows, np.arange(batch))

    def read(self, tokens: np.ndarray, kept: int) -> np.ndarray:
        self._tokens = _written(self._tokens, tokens)
        given = {"input_ids": self._tokens, **self._wanted.of(len(tokens), kept), ROWS: self._rows}
        outputs = self._session.run({**given, **self._constant})
        self._rows = _written(self._rows, np.arange(len(tokens)))
        return outputs["logits"][:, -kept:]

    def go_on_from(self, rows: np.ndarray) -> None:
        self._constant = _of_rows(self._constant, rows)
        self._rows = _written(self._rows, rows)


def _of_rows(constant: Arrays, rows: np.ndarray) -> Arrays:
    """What an encoder gave and what says where the prompt begins is the same for all beams of a prompt: where there are as many
    rows as before, the very arrays, so that a session need not bind or copy them again."""
    if all(len(array) == len(rows) for array in constant.values()):
        return constant
    return {name: array[rows] for name, array in constant.items()}


def _written(array: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The values in the array, if it has their shape, so that it stays bound; else in a new one."""
    if array.shape != values.shape:
        array = np.empty(values.shape, dtype=array.dtype)
    array[...] = values
    return array


def _empty(spec: TensorSpec, batch: int) -> np.ndarray:
    """A cache of no token: every dynamic axis besides the batch is 0 long."""
    shape = spec.concrete({axis: batch if axis == "batch" else 0 for axis in spec.shape if isinstance(axis, str)})
    return np.zeros(shape, dtype=spec.dtype)
