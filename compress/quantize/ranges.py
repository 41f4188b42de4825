"""From a histogram of a tensor's values to the range that its integers cover: min-max, percentile, entropy, MSE."""

from __future__ import annotations

import numpy as np

from compress.quantize.histogram import BINS, Histogram
from targets.base import Ranges

PERCENTILE = 99.99
"""Share of the values, in percent, that the range of `percentile` keeps."""
CANDIDATES = 100


def chosen_range(histogram: Histogram, method: Ranges, levels: int, symmetric: bool) -> tuple[float, float]:
    """The range (low, high) that `levels` integers shall cover; it holds 0.

    Args:
        levels: 256 for 8 bits.
        symmetric: integers are signed and their zero point is 0; the range is then (-t, t).
    """
    low, high = min(0.0, histogram.low), max(0.0, histogram.high)
    if method == "percentile":
        low, high = _percentile(histogram, PERCENTILE)
    elif method == "entropy":
        low, high = _entropy(histogram, levels // 2 if low < 0 else levels)
    elif method == "mse":
        return _least_squares(histogram, levels, symmetric)
    largest = max(-low, high)
    return (-largest, largest) if symmetric else (low, high)


def squared_error(values: np.ndarray, counts: np.ndarray, low: np.ndarray, high: np.ndarray, levels: int) -> np.ndarray:
    """Sum of the squared errors of `values` (n), each `counts` times, under every range (low, high) of shape (m): shape (m)."""
    step = np.maximum(high - low, 1e-30)[:, None] / (levels - 1)
    zero = np.round(-low[:, None] / step)
    integers = np.clip(np.round(values / step) + zero, 0, levels - 1)
    return np.asarray((((integers - zero) * step - values) ** 2) @ counts)


def _percentile(histogram: Histogram, percent: float) -> tuple[float, float]:
    """As much is cut off at both ends where there are values on both sides of 0."""
    values, counts = histogram.centres()
    order = np.argsort(values)
    values, below = values[order], np.cumsum(counts[order])
    cut = (1 - percent / 100) * below[-1] / (2 if histogram.low < 0 < histogram.high else 1)
    last = int(np.searchsorted(below, below[-1] - cut))
    first = int(np.searchsorted(below, cut, side="right"))
    half = histogram.width / 2
    low = max(histogram.low, values[first] - half) if histogram.low < 0 else 0.0
    high = min(histogram.high, values[last] + half) if histogram.high > 0 else 0.0
    return min(0.0, low), max(0.0, high)


def _entropy(histogram: Histogram, levels: int) -> tuple[float, float]:
    """The threshold t whose clipped and quantized distribution of absolute values diverges least from the clipped one.

    Source: Migacz, "8-bit inference with TensorRT", GTC 2017: outliers count in the last bin of the reference, and
    the quantized distribution spreads each level's mass over those of its bins that were not empty.
    """
    folded = (histogram.counts[BINS:] + histogram.counts[:BINS][::-1]).astype(np.float64)
    bins = int(np.flatnonzero(folded)[-1]) + 1 if folded.any() else 0
    if bins <= levels:
        return min(0.0, histogram.low), max(0.0, histogram.high)
    ends = np.unique(np.linspace(levels, bins, CANDIDATES).astype(int))
    best = int(min(ends, key=lambda end: divergence(folded, int(end), levels)))
    threshold = best * histogram.width
    return max(-threshold, min(0.0, histogram.low)), min(threshold, max(0.0, histogram.high))


def divergence(counts: np.ndarray, end: int, levels: int) -> float:
    """Kullback-Leibler divergence from the clipped distribution of the first `end` bins to its `levels` levels."""
    kept = counts[:end].copy()
    level = np.arange(end) * levels // end
    filled = kept > 0
    mass = np.bincount(level, weights=kept, minlength=levels)
    bins = np.bincount(level, weights=filled.astype(np.float64), minlength=levels)
    kept[-1] += counts[end:].sum()
    spread = np.where(filled, mass[level] / np.maximum(bins[level], 1), 0.0)
    reference, quantized = kept / kept.sum(), spread / max(spread.sum(), 1e-30)
    compared = reference > 0
    return float(np.sum(reference[compared] * np.log(reference[compared] / np.maximum(quantized[compared], 1e-12))))


def _least_squares(histogram: Histogram, levels: int, symmetric: bool) -> tuple[float, float]:
    """The ends that minimise the squared error, one after the other, twice: clipping error against finer steps."""
    values, counts = histogram.centres()
    low, high = min(0.0, histogram.low), max(0.0, histogram.high)
    shares = np.linspace(0.2, 1.0, CANDIDATES)
    if symmetric:
        largest = max(-low, high)
        ends = shares * largest
        best = float(ends[np.argmin(squared_error(values, counts, -ends, ends, levels - 1))])
        return -best, best
    full = low, high
    for _ in range(2 if low < 0 < high else 1):
        if full[1] > 0:
            ends = shares * full[1]
            high = float(ends[np.argmin(squared_error(values, counts, np.full_like(ends, low), ends, levels))])
        if full[0] < 0:
            ends = shares * full[0]
            low = float(ends[np.argmin(squared_error(values, counts, ends, np.full_like(ends, high), levels))])
    return low, high
