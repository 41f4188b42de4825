"""Ranges of activations: histograms that widen, and the four ways to choose a range, against numpy and brute force."""

from __future__ import annotations

import numpy as np
import pytest

from compress.quantize.histogram import BINS, Histogram
from compress.quantize.ranges import chosen_range, divergence, squared_error


def _histogram(*batches: np.ndarray) -> Histogram:
    histogram = Histogram()
    for batch in batches:
        histogram.add(batch.astype(np.float32))
    return histogram


def _normal(samples: int = 20_000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, samples).astype(np.float32)


def test_counts_are_numpys_however_often_the_range_widened() -> None:
    values = _normal()
    histogram = _histogram(values[:100] * 0.001, values[100:10_000], np.array([7.9, -31.0]), values[10_000:])
    everything = np.concatenate([values[:100] * 0.001, values[100:10_000], np.array([7.9, -31.0]), values[10_000:]])
    edges = (np.arange(2 * BINS + 1) - BINS) * histogram.width
    assert (histogram.counts == np.histogram(everything.astype(np.float32), edges)[0]).all()
    assert [histogram.low, histogram.high] == pytest.approx([-31.0, 7.9])
    assert histogram.width == 1 / 64  # the least power of two of which 2048 reach 31


def test_exact_zeros_are_a_value_of_their_own() -> None:
    histogram = _histogram(np.zeros(5), np.array([0.0, 1.0, 2.0]))
    values, counts = histogram.centres()
    assert counts[values == 0.0] == [6]
    assert counts.sum() == 8


def test_a_histogram_of_both_is_the_merged_one() -> None:
    one, other = _normal(5_000, 1), 30 * _normal(5_000, 2)
    merged, both = _histogram(one).merge(_histogram(other)), _histogram(one, other)
    assert (merged.counts == both.counts).all()
    assert (merged.low, merged.high, merged.width) == (both.low, both.high, both.width)


def test_the_histogram_of_a_large_batch_has_its_extremes_and_its_shape() -> None:
    """Only every so many elements are counted; the distribution stays within what so many draws of it would differ."""
    values = _normal(1_000_000)
    values[123_456] = 40.0
    histogram = _histogram(values)
    assert histogram.high == 40.0
    found, counts = histogram.centres()
    share = counts[np.abs(found) < 1].sum() / counts.sum()
    assert share == pytest.approx(0.6827, abs=0.005)


def test_minmax_holds_zero_and_symmetric_ranges_reach_the_larger_side() -> None:
    histogram = _histogram(np.array([0.5, 3.0, 1.25]))
    assert chosen_range(histogram, "minmax", 256, symmetric=False) == (0.0, 3.0)
    both = _histogram(np.array([-1.0, 3.0]))
    assert chosen_range(both, "minmax", 256, symmetric=False) == (-1.0, 3.0)
    assert chosen_range(both, "minmax", 256, symmetric=True) == (-3.0, 3.0)


def test_percentile_is_numpys_within_a_bin() -> None:
    values = np.abs(_normal(100_000)).astype(np.float32)
    histogram = _histogram(values)
    low, high = chosen_range(histogram, "percentile", 256, symmetric=False)
    assert low == 0.0
    assert high == pytest.approx(float(np.quantile(values, 0.9999)), abs=2 * histogram.width)
    signed = _normal(100_000)
    low, high = chosen_range(_histogram(signed), "percentile", 256, symmetric=False)
    assert (low, high) == pytest.approx(tuple(np.quantile(signed, (0.00005, 0.99995))), abs=0.02)


def test_mse_is_the_best_of_all_thresholds_by_brute_force() -> None:
    """Fake quantization of the values themselves, written out here, for 200 thresholds."""
    values = np.abs(_normal(20_000)).astype(np.float32)
    values[0] = 20.0

    def error(high: float) -> float:
        step = high / 15
        return float(((np.clip(np.round(values / step), 0, 15) * step - values) ** 2).sum())

    thresholds = np.linspace(4, 20, 200)
    best = min(error(float(threshold)) for threshold in thresholds)
    low, high = chosen_range(_histogram(values), "mse", 16, symmetric=False)
    assert low == 0.0
    assert high < 19
    assert error(high) <= 1.01 * best


def test_squared_error_is_that_of_quantizing() -> None:
    """By hand: 4 levels over [-1, 2] are -1, 0, 1, 2."""
    values, counts = np.array([-1.5, 0.4, 5.0]), np.array([2.0, 1.0, 1.0])
    found = squared_error(values, counts, np.array([-1.0]), np.array([2.0]), 4)
    assert found == pytest.approx([2 * 0.25 + 0.16 + 9.0])


def test_divergence_is_that_of_the_written_out_example() -> None:
    """Six bins to two levels, clipped at four: reference (1, 0, 2, 3 + 4), quantized (1, 0, 2.5, 2.5)."""
    counts = np.array([1.0, 0.0, 2.0, 3.0, 0.0, 4.0])
    reference, quantized = np.array([1, 2, 7]) / 10, np.array([1, 2.5, 2.5]) / 6
    assert divergence(counts, 4, 2) == pytest.approx(float((reference * np.log(reference / quantized)).sum()))


def test_entropy_cuts_a_far_outlier_and_keeps_what_needs_no_cut() -> None:
    values = _normal(50_000)
    values[0] = 60.0
    low, high = chosen_range(_histogram(values), "entropy", 256, symmetric=False)
    assert 2 < high < 30
    assert low >= -high
    even = np.linspace(0, 1, 50_000)
    assert chosen_range(_histogram(even), "entropy", 256, symmetric=False)[1] > 0.9


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy", "mse"])
def test_nothing_but_zeros_is_a_range_of_zero(method: str) -> None:
    assert chosen_range(_histogram(np.zeros(10)), method, 256, symmetric=False) == (0.0, 0.0)  # type: ignore[arg-type]
