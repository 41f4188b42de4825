"""A histogram that takes values batch by batch and widens by merging bins: constant memory over any number of samples."""

from __future__ import annotations

import math

import numpy as np

BINS = 2048
"""On each side of 0: an 8-bit step over the whole range is at least 8 bins wide, also just after a widening."""

COUNTED = 2**17
"""Elements of a batch that are counted, evenly spaced (an odd step, so that no channel is favoured); all take part in the
minimum and maximum. To count is what observing takes most of its time for."""


class Histogram:
    """Counts of values in `2 * BINS` bins of one width around 0; bin k holds [k * width, (k + 1) * width).

    A value beyond the last bin doubles the width and merges neighbours. 0 stays an edge, so merging is exact: no count is
    ever put where it might not belong.
    """

    def __init__(self) -> None:
        self.width = 0.0
        self.counts = np.zeros(2 * BINS, np.int64)
        self.low, self.high = math.inf, -math.inf
        self.zeros = 0

    def add(self, values: np.ndarray) -> None:
        """NaN and Inf only show in `low` and `high`."""
        if values.size == 0:
            return
        low, high = float(values.min()), float(values.max())
        self.low, self.high = _least(self.low, low), _largest(self.high, high)
        largest = max(-low, high)
        if not math.isfinite(largest):
            return
        if self.width == 0.0 and largest > 0:
            self.width = _width_for(largest)
        while largest >= self.width * BINS and largest > 0:
            self._widen()
        flat = values.reshape(-1)[:: max(1, values.size // COUNTED) | 1]
        zeros = flat.size - int(np.count_nonzero(flat))
        self.zeros += zeros
        if self.width > 0:
            places = np.floor(flat * np.float32(1 / self.width)).astype(np.intp)  # exact: the width is a power of two
            counted = np.bincount(places + BINS, minlength=2 * BINS)
            counted[BINS] -= zeros
            self.counts += counted

    def merge(self, other: Histogram) -> Histogram:
        """A new one with the counts of both, for tensors that share one range."""
        merged = Histogram()
        merged.low, merged.high = min(self.low, other.low), max(self.high, other.high)
        merged.zeros = self.zeros + other.zeros
        merged.width = max(self.width, other.width)
        for each in (self, other):
            copy = Histogram()
            copy.width, copy.counts = each.width, each.counts.copy()
            while 0 < copy.width < merged.width:
                copy._widen()
            merged.counts += copy.counts
        return merged

    def centres(self) -> tuple[np.ndarray, np.ndarray]:
        """The middle of each bin that is not empty, and its count; exact zeros are a value of their own."""
        places = np.flatnonzero(self.counts)
        values = (places - BINS + 0.5) * self.width
        counts = self.counts[places].astype(np.float64)
        if self.zeros:
            values, counts = np.append(values, 0.0), np.append(counts, float(self.zeros))
        return values, counts

    def _widen(self) -> None:
        pairs = self.counts.reshape(BINS, 2).sum(axis=1)
        self.counts = np.zeros(2 * BINS, np.int64)
        self.counts[BINS // 2 : BINS // 2 + BINS] = pairs
        self.width *= 2


def _width_for(largest: float) -> float:
    """A power of two, so that histograms of different tensors can be merged, and whose inverse FP32 holds."""
    return 2.0 ** max(-100, math.ceil(math.log2(largest * (1 + 1e-6) / BINS)))


def _least(before: float, now: float) -> float:
    return math.nan if math.isnan(before) or math.isnan(now) else min(before, now)


def _largest(before: float, now: float) -> float:
    return math.nan if math.isnan(before) or math.isnan(now) else max(before, now)
