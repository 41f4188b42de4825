"""Intervals: of a ratio of latencies over rounds nested in processes, and of a paired difference over samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.measurements import Interval

RESAMPLES = 2000

WIDER = 1.05
"""Processes are not quite normal: without it 94.5 to 94.9 % of the A/A intervals of a quiet machine held 1, and of a true
0 % up to 5.5 % would be claimed."""

_T95 = {
    1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228,
    12: 2.179, 15: 2.131, 20: 2.086, 30: 2.042, 60: 2.000, 120: 1.980,
}  # fmt: skip
"""Degrees of freedom -> two-sided 95 % point of Student's t."""


def ratio_interval(slower: Sequence[np.ndarray], faster: Sequence[np.ndarray], seed: int = 0) -> Interval:
    """How many times faster the second engine is: the median over rounds of the log ratio of block medians, by process.

    The estimate is the mean over processes of each process's median. The interval is that of a bootstrap which draws whole
    processes: for a mean its spread is known in closed form, s / sqrt(n) once it is freed of its bias by (n - 1) / n,
    and since n is small it is taken with Student's t. The noise of blocks within a process is already in s: to draw
    rounds as well would count it twice. One median over the rounds of all processes, with percentiles of a bootstrap
    on both levels, was tried first; `python -m benchmarks.studies.honesty` shows what either covers.

    Args:
        slower, faster: for each process the block medians in seconds, shape (rounds,), paired by round.
        seed: of the bootstrap over rounds, which is all there is where there is a single process.

    Returns:
        The ratio with its 95 % interval. Of a single process it knows nothing but the rounds.

    Source: Kalibera and Jones 2013, "Rigorous benchmarking in reasonable time" (levels of repetition); Davison and
        Hinkley 1997, "Bootstrap Methods", section 3.8 (which level to draw); Hesterberg 2015,
        doi:10.1080/00031305.2015.1089789 (what bootstraps of small samples leave out).
    """
    logs = [np.log(one) - np.log(other) for one, other in zip(slower, faster)]
    middle = float(np.mean([np.median(process) for process in logs]))
    half = half_width(logs, seed)
    return Interval(math.exp(middle), math.exp(middle - half), math.exp(middle + half))


def half_width(logs: Sequence[np.ndarray], seed: int = 0) -> float:
    """Half the 95 % interval of the mean over processes of each process's median; see `ratio_interval`.

    Args:
        logs: for each process its rounds, on the log scale.
    """
    if len(logs) == 1:
        return student_t(len(logs[0]) - 1) * _spread_over_rounds(logs[0], np.random.default_rng(seed))
    medians = np.array([np.median(process) for process in logs])
    return WIDER * student_t(len(logs) - 1) * float(medians.std(ddof=1)) / math.sqrt(len(logs))


def student_t(freedom: float) -> float:
    """Two-sided 95 % point of Student's t; straight in 1 / freedom between the table's entries, within 0.3 %."""
    inverse = [0.0, *(1 / entry for entry in reversed(_T95))]
    return float(np.interp(1 / max(freedom, 1.0), inverse, [1.95996, *reversed(_T95.values())]))


def _spread_over_rounds(logs: np.ndarray, generator: np.random.Generator) -> float:
    """Standard deviation of the median when the rounds are drawn anew."""
    return float(np.median(logs[generator.integers(len(logs), size=(RESAMPLES, len(logs)))], axis=1).std())


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
