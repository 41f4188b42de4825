"""Whether an engine computed what it was timed on: answers given while timing against those of the accuracy run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.feed import kept
from benchmarks.worker import Answer, Worker
from targets import Arrays, Engine, Session

TOLERANCE = 0.02
"""Share of an output's range. Another number of threads may round a sum otherwise, and INT8 makes a step of it."""
REMEMBERS = 1.5
"""Times faster on an input seen before than on new ones from which an engine is said to remember. Caches of the CPU
give a computing engine a few percent."""
FEWEST_PAIRS = 10
"""Inputs given twice, over all processes, below which that is not judged: of two calls in a row on a busy machine one
may well take three times as long."""

Answers = Sequence[Arrays]
"""For each input of a pool the elements kept of every output (`benchmarks.feed.kept`)."""


def answers_of(engine: Engine, pool: Sequence[Mapping[str, np.ndarray]], threads: int = 1) -> list[Arrays]:
    """The engine's answers to a pool, in a process of its own that is never timed."""
    with Worker(engine, threads) as worker:
        return answers_from(worker, pool)


def answers_from(opened: Worker | Session, pool: Sequence[Mapping[str, np.ndarray]]) -> list[Arrays]:
    """The answers to a pool by what is open anyway, such as the worker of the accuracy run."""
    return [kept(opened.run(inputs)) for inputs in pool]


def wrong_answers(expected: Answers, given: Sequence[Answer]) -> str | None:
    """A sentence if some of the answers given while timing are not the expected ones; None if all are.

    An answer is right where no element differs by more than TOLERANCE of that output's range over the pool.
    """
    allowed = {name: TOLERANCE * _range([answers[name] for answers in expected]) for name in expected[0]}
    errors = [
        max(_distance(expected[answer.index][name], answer.outputs[name], allowed[name]) for name in allowed)
        for answer in given
    ]
    wrong = sum(error > 1 for error in errors)
    if not wrong:
        return None
    return (
        f"{wrong} of {len(given)} answers given while being timed are not those given untimed, as in the accuracy run: "
        "the engine skips work or gives old answers, so its times are not those of what is scored"
    )


def remembered(new_s: Sequence[float], repeated_s: Sequence[float], pairs: int) -> str | None:
    """A sentence if inputs seen before are answered much faster than new ones; None if not.

    Args:
        new_s, repeated_s: the median call of each process, on new inputs and on one and the same.
        pairs: the inputs that were given twice, in all processes together.
    """
    if pairs < FEWEST_PAIRS:
        return None
    # The process where it shows least: an engine that remembers does so in all, a machine that halts does not.
    ratio = float(np.min(np.array(new_s) / np.array(repeated_s)))
    if ratio < REMEMBERS:
        return None
    return (
        f"an input seen before is answered {ratio:.1f} times faster than a new one: the engine remembers answers "
        "instead of computing them; the times given here are those on new inputs"
    )


def _range(answers: Sequence[np.ndarray]) -> float:
    values = np.concatenate([answer[np.isfinite(answer)] for answer in answers])
    if values.size == 0:
        return 0.0
    return float(np.ptp(values)) or float(np.abs(values).max())


def _distance(expected: np.ndarray, found: np.ndarray, allowed: float) -> float:
    """In units of what is allowed; infinite for another number of elements or new infinities."""
    if expected.shape != found.shape:
        return float("inf")
    same = (expected == found) | (np.isnan(expected) & np.isnan(found))
    if same.all():
        return 0.0
    largest = float(np.abs(expected[~same] - found[~same]).max())
    return float("inf") if not np.isfinite(largest) or allowed == 0 else largest / allowed
