"""Intervals: paired bootstrap over samples, and over rounds of blocks nested in processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.report import Interval

RESAMPLES = 2000


def ratio_interval(slower: Sequence[np.ndarray], faster: Sequence[np.ndarray], seed: int = 0) -> Interval:
    """How many times faster the second engine is: the median over rounds of the ratio of block medians.

    Args:
        slower, faster: for each process the block medians in seconds, shape (rounds,), paired by round.

    Returns:
        exp of the median log ratio; its 95 % interval from a bootstrap that draws processes, then rounds within them.

    Source: hierarchical resampling as in Kalibera and Jones 2013, "Rigorous benchmarking in reasonable time".
    """
    logs = [np.log(one) - np.log(other) for one, other in zip(slower, faster, strict=True)]
    generator = np.random.default_rng(seed)
    medians = np.empty(RESAMPLES)
    for index in range(RESAMPLES):
        drawn = generator.integers(len(logs), size=len(logs))
        medians[index] = np.median(
            np.concatenate(
                [logs[process][generator.integers(len(logs[process]), size=len(logs[process]))] for process in drawn]
            )
        )
    low, high = np.quantile(medians, [0.025, 0.975])
    middle = float(np.median(np.concatenate(logs)))
    return Interval(float(np.exp(middle)), float(np.exp(min(low, middle))), float(np.exp(max(high, middle))))


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
        differences[index] = value(changed[rows]) - value(original[rows])
    low, high = np.quantile(differences, [0.025, 0.975])
    return Interval(value(changed) - value(original), float(low), float(high))
