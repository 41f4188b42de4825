"""Intervals: of a ratio of latencies over rounds nested in processes, and of a paired difference over samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.report import Interval

RESAMPLES = 2000

_T95 = {
    1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228,
    12: 2.179, 15: 2.131, 20: 2.086, 30: 2.042, 60: 2.000, 120: 1.980,
}  # fmt: skip
"""Degrees of freedom -> two-sided 95 % point of Student's t."""


def ratio_interval(slower: Sequence[np.ndarray], faster: Sequence[np.ndarray], seed: int = 0) -> Interval:
    """How many times faster the second engine is: the median over rounds of the log ratio of block medians.

    Args:
        slower, faster: for each process the block medians in seconds, shape (rounds,), paired by round.

    Returns:
        exp of the median log ratio with its 95 % interval. Of a single process it knows nothing but the rounds.
    """
    logs = [np.log(one) - np.log(other) for one, other in zip(slower, faster, strict=True)]
    middle = float(np.median(np.concatenate(logs)))
    half = half_width(logs, seed)
    return Interval(math.exp(middle), math.exp(middle - half), math.exp(middle + half))


def half_width(logs: Sequence[np.ndarray], seed: int = 0) -> float:
    """Half the 95 % interval of the median over all rounds, from a bootstrap over processes and rounds within them.

    Two bootstraps, since noise has two levels. One draws whole processes, for what differs from process to process
    (addresses, caches, clocks); the other draws rounds within each process, for the noise of blocks, and is the least that
    the first may say. Drawing both at once, as is often done, counts the noise of blocks twice. Percentiles of so few
    processes cover far less than they say, so the spread is taken with Student's t; and it is the bootstrap's middle
    68 %, because beside other programs a block in a hundred takes twice as long and blows up a standard deviation.
    `python -m benchmarks.studies.honesty` measures what that covers.

    Args:
        logs: for each process its rounds' log ratios.

    Source: Kalibera and Jones 2013, "Rigorous benchmarking in reasonable time" (levels of repetition); Davison and
        Hinkley 1997, "Bootstrap Methods", section 3.8 (hierarchies); Hesterberg 2015,
        doi:10.1080/00031305.2015.1089789 (small samples: t, and n / (n - 1)).
    """
    generator = np.random.default_rng(seed)
    processes = len(logs)
    within = _spread(_medians_of_drawn_rounds(logs, generator))
    by_rounds = student_t(sum(len(process) - 1 for process in logs)) * within
    if processes == 1:
        return by_rounds
    drawn = generator.integers(processes, size=(RESAMPLES, processes))
    between = _spread(_medians_of_processes(logs, drawn)) * math.sqrt(processes / (processes - 1))
    return student_t(processes - 1) * between if between > within else by_rounds


def student_t(freedom: float) -> float:
    """Two-sided 95 % point of Student's t; straight in 1 / freedom between the table's entries, within 0.3 %."""
    inverse = [0.0, *(1 / entry for entry in reversed(_T95))]
    return float(np.interp(1 / max(freedom, 1.0), inverse, [1.95996, *reversed(_T95.values())]))


def _spread(medians: np.ndarray) -> float:
    """Half of the middle 68.27 %: the standard deviation of a normal sample, untouched by its tails."""
    low, high = np.quantile(medians, [0.15865, 0.84135])
    return float(high - low) / 2


def _medians_of_drawn_rounds(logs: Sequence[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    """The overall median when the rounds are drawn anew within each process, RESAMPLES times."""
    drawn = [process[generator.integers(len(process), size=(RESAMPLES, len(process)))] for process in logs]
    medians: np.ndarray = np.median(np.concatenate(drawn, axis=1), axis=1)
    return medians


def _medians_of_processes(logs: Sequence[np.ndarray], drawn: np.ndarray) -> np.ndarray:
    """The median over the rounds of the processes that each row of `drawn` names; processes may differ in length."""
    longest = max(map(len, logs))
    padded = np.array([np.pad(process, (0, longest - len(process)), constant_values=np.nan) for process in logs])
    medians: np.ndarray = np.nanmedian(padded[drawn].reshape(len(drawn), -1), axis=1)
    return medians


def paired_difference(
    value: Callable[[np.ndarray], float], changed: np.ndarray, original: np.ndarray, seed: int = 0
) -> Interval:
    """`value(changed) - value(original)` with a 95 % interval that draws the same samples for both.

    Args:
        value: the metric of any set of rows.
        changed, original: per-sample statistics of the two models, shape (samples, k), in the same order.
    """
    generator = np.random.default_rng(seed)
    samples = len(original)
    differences = np.empty(RESAMPLES)
    for index in range(RESAMPLES):
        rows = generator.integers(samples, size=samples)
        # `take` copies whole rows: four times as fast as an index in brackets on 10,000 rows of three columns.
        differences[index] = value(changed.take(rows, axis=0)) - value(original.take(rows, axis=0))
    low, high = np.quantile(differences, [0.025, 0.975])
    return Interval(value(changed) - value(original), float(low), float(high))
