"""How far one figure moved from one run to another, with the interval of the move itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from benchmarks.classification import mcnemar
from benchmarks.measurements import Interval, Latency
from benchmarks.metrics import Accuracy, Metric, TopK, ready_made
from benchmarks.render.wording import signed
from benchmarks.report import McNemar, Score
from benchmarks.statistics import half_width, paired_difference

SAME_VALUE = 1e-9
"""Rows belong to a score if the metric of the rows is the score's value, but for rounding."""


@dataclass(frozen=True)
class Move:
    """From the first run to another: relative for size, latency and speed-up, in the metric's unit for the metric.

    `interval` is the move's own 95 % interval; None where the figure is exact, or nothing is known of its spread.
    `mcnemar` counts the samples lost and gained, of a share of right samples that was paired sample by sample.
    """

    change: float
    interval: Interval | None = None
    paired: bool = False
    mcnemar: McNemar | None = None

    @property
    def real(self) -> bool | None:
        """Whether the interval excludes zero; None where there is none.

        Of few samples the exact test has to agree: the bootstrap calls four lost and none gained real, which chance
        does one time in eight.
        """
        if self.interval is None:
            return None
        agrees = self.mcnemar is None or self.mcnemar.p_value <= 0.05
        return agrees and not self.interval.low <= 0.0 <= self.interval.high


def size_move(before: int, now: int) -> Move:
    """Bytes are exact."""
    return Move(now / before - 1)


def metric_move(before: Score, now: Score, rows: tuple[np.ndarray, np.ndarray] | None) -> Move:
    """The metric's change, as sharp as the runs allow.

    Args:
        rows: the per-sample statistics of both runs on the same evaluation samples. With them, and a metric of this
            package, the interval is a paired bootstrap; without, the intervals of the two differences to the original
            are put together as if independent, which is wider than the truth.
    """
    if rows is not None and (paired := _paired_move(before, now, *rows)):
        return paired
    change = now.value - before.value
    if before.difference is None or now.difference is None:
        return Move(change)
    one, other = before.difference, now.difference
    below = math.hypot(other.value - other.low, one.high - one.value)
    above = math.hypot(other.high - other.value, one.value - one.low)
    return Move(change, Interval(change, change - below, change + above))


def ratio_move(before: Interval, now: Interval) -> Move:
    """Relative change of a ratio that each run measured by itself: on the log scale half-widths add in quadrature."""
    change = math.log(now.value / before.value)
    below = math.hypot(math.log(now.value / now.low), math.log(before.high / before.value))
    above = math.hypot(math.log(now.high / now.value), math.log(before.value / before.low))
    ends = (math.expm1(at) for at in (change, change - below, change + above))
    interval = Interval(*ends)
    return Move(interval.value, interval)


def latency_move(before: Latency, now: Latency) -> Move:
    """Relative change of the plain latency. Less safe than a ratio: no engine of one run ran beside one of the other."""
    return ratio_move(_of_blocks(before), _of_blocks(now))


def percent(move: Move | None) -> str:
    """A relative move: '−10.0 %'; empty where there is none."""
    return f"{signed(100 * move.change, 1)} %" if move else ""


def percent_ends(move: Move | None) -> str:
    """The interval of a relative move: '[−12.1, −7.8]'; empty where there is none."""
    ends = move.interval if move else None
    return f"[{signed(100 * ends.low, 1)}, {signed(100 * ends.high, 1)}]" if ends else ""


def _of_blocks(latency: Latency) -> Interval:
    half = half_width([np.log(process) for process in latency.block_medians_s])
    return Interval(latency.median_s, latency.median_s * math.exp(-half), latency.median_s * math.exp(half))


def _paired_move(before: Score, now: Score, one: np.ndarray, other: np.ndarray) -> Move | None:
    metric = ready_made(now.metric)
    if metric is None or one.shape != other.shape:
        return None
    if metric.classifies and not np.array_equal(one[:, 1], other[:, 1]):
        return None
    pairs = ((one, before), (other, now))
    if not all(
        math.isclose(metric.value(rows), score.value, rel_tol=SAME_VALUE, abs_tol=SAME_VALUE) for rows, score in pairs
    ):
        return None
    interval = paired_difference(metric.value, other, one)
    right = [_right(metric, rows) for rows in (one, other)]
    test = mcnemar(right[0], right[1]) if right[0] is not None and right[1] is not None else None
    return Move(interval.value, interval, True, test)


def _right(metric: Metric, rows: np.ndarray) -> np.ndarray | None:
    """Which samples are right, of a metric that is the share of them."""
    if isinstance(metric, Accuracy):
        return np.asarray(rows[:, 0] == rows[:, 1])
    return np.asarray(rows[:, 3] == 1) if isinstance(metric, TopK) else None
