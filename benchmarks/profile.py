"""The runtime's own profile of an engine, taken in a worker process of its own, pinned as for every measurement."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmarks.worker import Worker
from export.errors import UnsupportedError
from targets import Engine, LayerTime, Profile

RUNS = 30


def profile_of(
    engine: Engine, inputs: Mapping[str, np.ndarray], threads: int, runs: int = RUNS, past: int | None = None
) -> Profile:
    """Where the time of one inference goes.

    Args:
        past: tokens in the cache of a decoder that keeps it itself; None for every other engine.

    Raises:
        UnsupportedError: if the runtime does not run here, or has no profiler.
    """
    with Worker(engine, threads) as worker:
        return worker.profile(inputs, runs, past)


def layers_of(
    engine: Engine, inputs: Mapping[str, np.ndarray], threads: int, past: int | None = None
) -> tuple[LayerTime, ...]:
    """The layers alone, for a report's row; empty where the runtime does not tell."""
    try:
        return profile_of(engine, inputs, threads, past=past).layers
    except UnsupportedError:
        return ()
