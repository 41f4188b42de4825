"""Engines with a known fault or a known cost, for the studies and tests of the measuring protocol.

Their targets are named by class path ("benchmarks.studies.planted:Padded"); an engine's settings say what they do.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np

from targets import Arrays, Engine, Session, target_class

HERE = "benchmarks.studies.planted"


def planted(engine: Engine, kind: str, **settings: Any) -> Engine:
    """`engine` behind one of this module's targets; it stays what that one runs."""
    inner = {"inner": engine.target, **settings}
    return replace(engine, target=f"{HERE}:{kind}", settings={**engine.settings, **inner})


class Wrapped:
    """A target whose sessions hold another target's session; subclasses say what they do to it."""

    name: ClassVar[str] = "planted"

    @classmethod
    def runtime_module(cls) -> str:
        return "onnxruntime"

    def load(self, engine: Engine, threads: int) -> WrappedSession:
        inner = target_class(engine.settings["inner"])().load(replace(engine, target=engine.settings["inner"]), threads)
        return self.wrap(inner, engine)

    def wrap(self, inner: Session, engine: Engine) -> WrappedSession:
        return WrappedSession(inner)


class WrappedSession:
    def __init__(self, inner: Session) -> None:
        self.inner = inner

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        return self.inner.run(inputs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class Padded(Wrapped):
    """Each call takes `pad_s` seconds longer than the engine: a difference whose size is known."""

    def wrap(self, inner: Session, engine: Engine) -> WrappedSession:
        return PaddedSession(inner, engine.settings["pad_s"])


class PaddedSession(WrappedSession):
    def __init__(self, inner: Session, pad_s: float) -> None:
        super().__init__(inner)
        self._pad_s = pad_s

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        outputs, clock = self.inner.run(inputs), time.perf_counter
        end = clock() + self._pad_s
        while clock() < end:
            pass
        return outputs


class Null(Wrapped):
    """Computes nothing: what is measured of it is what measuring itself costs."""

    @classmethod
    def runtime_module(cls) -> str:
        return "json"

    def load(self, engine: Engine, threads: int) -> WrappedSession:
        return NullSession()


class NullSession(WrappedSession):
    def __init__(self) -> None:
        self._outputs = {"features": np.zeros((1, 1), np.float32)}

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        return self._outputs


class Memoising(Wrapped):
    """Remembers the answer to every input by its content, and gives it again without computing."""

    def wrap(self, inner: Session, engine: Engine) -> WrappedSession:
        return MemoisingSession(inner)


class MemoisingSession(WrappedSession):
    def __init__(self, inner: Session) -> None:
        super().__init__(inner)
        self._answers: dict[bytes, Arrays] = {}

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        key = b"".join(array.tobytes() for array in inputs.values())
        if key not in self._answers:
            self._answers[key] = self.inner.run(inputs)
        return self._answers[key]


class Stale(Wrapped):
    """Remembers the answer by the identity of the input's buffer: whoever fills the buffer anew gets an old answer."""

    def wrap(self, inner: Session, engine: Engine) -> WrappedSession:
        return StaleSession(inner)


class StaleSession(WrappedSession):
    def __init__(self, inner: Session) -> None:
        super().__init__(inner)
        self._answers: dict[tuple[int, ...], Arrays] = {}

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        key = tuple(array.__array_interface__["data"][0] for array in inputs.values())
        if key not in self._answers:
            self._answers[key] = self.inner.run(inputs)
        return self._answers[key]


class Lazy(Wrapped):
    """Computes the first `honest` calls of a process, as an accuracy run would see them, then answers zeros."""

    def wrap(self, inner: Session, engine: Engine) -> WrappedSession:
        return LazySession(inner, engine.settings["honest"])


class LazySession(WrappedSession):
    def __init__(self, inner: Session, honest: int) -> None:
        super().__init__(inner)
        self._left = honest
        self._zeros: Arrays = {}

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        if self._left > 0 or not self._zeros:
            self._left -= 1
            outputs = self.inner.run(inputs)
            self._zeros = {name: np.zeros_like(output) for name, output in outputs.items()}
            return outputs
        return self._zeros
