"""High percentiles by MLPerf's early-stopping rule: only where the calls support them, and then a little on the safe side.

Of n independent calls, t lie over a bound. The bound may be called the p-th percentile if so few over it would be
unlikely, were the share of calls over it really 1 - p: P(Binomial(n, 1 - p) <= t) < 1 - confidence.

Source: mlcommons/inference at b66003e, loadgen/early_stopping.cc (the minimum of queries) and loadgen/results.cc
(PerformanceSummary::EarlyStopping, single stream: the estimate); mlcommons/inference_policies, inference_rules.adoc,
"Early Stopping".
"""

from __future__ import annotations

import math

import numpy as np

from benchmarks.measurements import Tail

PERCENTILES = (0.9, 0.99, 0.999)
CONFIDENCE = 0.99
"""MLPerf's, in every scenario; its tolerance is 0."""


def minimum_queries(misses: int, percentile: float, confidence: float = CONFIDENCE, tolerance: float = 0.0) -> int:
    """The fewest queries, those `misses` over the bound among them, with which the bound passes for the percentile.

    Args:
        misses: queries over the latency bound, 0 or more.
        percentile: in (0, 1).
        confidence: in [0.5, 1).
        tolerance: how much less than the percentile is good enough, in [0, percentile).
    """
    over = 1 - percentile + tolerance
    low = math.floor(misses / over)  # there the expected number of misses is `misses`: a chance of about a half
    step = 1
    while _at_most(misses, low + step, over) >= 1 - confidence:
        low, step = low + step, 2 * step
    high = low + step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _at_most(misses, middle, over) < 1 - confidence else (middle, high)
    return high


def tails(calls_s: np.ndarray) -> tuple[Tail, ...]:
    """The percentiles 0.9, 0.99 and 0.999 of the seconds of all calls, shape (calls,), in any order.

    The estimate is the t-th largest call, t being the most misses that so many calls may hold. It lies above the plain
    percentile of the sample, the more so the fewer calls there are.
    """
    ordered = np.sort(calls_s)
    return tuple(_tail(ordered, percentile) for percentile in PERCENTILES)


def _tail(ordered_s: np.ndarray, percentile: float) -> Tail:
    needed = minimum_queries(1, percentile)
    if len(ordered_s) < needed:
        return Tail(percentile, needed, None)
    return Tail(percentile, needed, float(ordered_s[len(ordered_s) - _allowed_misses(len(ordered_s), percentile)]))


def _allowed_misses(queries: int, percentile: float) -> int:
    """The largest t with minimum_queries(t) <= queries, given that one miss is allowed."""
    low, high = 1, math.ceil(queries * (1 - percentile))
    while high - low > 1:
        middle = (low + high) // 2
        passes = _at_most(middle, queries, 1 - percentile) < 1 - CONFIDENCE
        low, high = (middle, high) if passes else (low, middle)
    return low


def _at_most(misses: int, queries: int, over: float) -> float:
    """P(Binomial(queries, over) <= misses) for `misses` below the mean or near it; exact up to rounding.

    From the largest term downwards each is the one before times a known ratio, until nothing is added any more.
    """
    log_term = (
        math.lgamma(queries + 1)
        - math.lgamma(misses + 1)
        - math.lgamma(queries - misses + 1)
        + misses * math.log(over)
        + (queries - misses) * math.log1p(-over)
    )
    total = term = 1.0
    for count in range(misses, 0, -1):
        term *= count * (1 - over) / ((queries - count + 1) * over)
        if total + term == total:
            break
        total += term
    return math.exp(log_term) * total
