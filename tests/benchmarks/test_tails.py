"""MLPerf's early-stopping rule against the binomial distribution itself and against the published counts."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.tails import minimum_queries, tails

PERCENTILES = (0.9, 0.99, 0.999)


@pytest.mark.parametrize(("percentile", "published"), [(0.9, 64), (0.99, 662), (0.999, 6636)])
def test_the_fewest_queries_are_the_published_ones(percentile: float, published: int) -> None:
    assert minimum_queries(1, percentile) == published


@pytest.mark.parametrize("percentile", PERCENTILES)
def test_counts_equal_the_regularised_beta_function_for_0_to_100_misses(percentile: float) -> None:
    """LoadGen's odds(h, t, p) = I_p(h, t + 1); its answer is the least h with odds below 1 - c, and h + t queries."""
    special = pytest.importorskip("scipy.special")
    for misses in range(101):
        within = np.arange(1, int(3 * (misses + 8) / (1 - percentile)))
        least = int(within[special.betainc(within, misses + 1, percentile) < 1 - 0.99][0])
        assert minimum_queries(misses, percentile) == least + misses, misses


def test_confidence_and_tolerance_move_the_count() -> None:
    binom = pytest.importorskip("scipy.stats").binom
    queries = np.arange(10, 3000)
    expected = int(queries[binom.cdf(5, queries, 1 - 0.99 + 0.002) < 1 - 0.95][0])
    assert minimum_queries(5, 0.99, confidence=0.95, tolerance=0.002) == expected


def test_a_percentile_without_enough_calls_says_how_many_it_takes() -> None:
    assert [(tail.needed, tail.value_s) for tail in tails(np.ones(63))] == [(64, None), (662, None), (6636, None)]
    assert [tail.value_s for tail in tails(np.ones(662))] == [1.0, 1.0, None]


@pytest.mark.parametrize("calls", [64, 65, 661, 662, 5000, 6636])
def test_the_estimate_is_the_call_that_the_rule_takes(calls: int) -> None:
    """Of 0 .. n-1 in random order the estimate is n - t; t counted up one by one as LoadGen does."""
    values = np.random.default_rng(0).permutation(calls).astype(float)
    for tail in tails(values):
        if calls < tail.needed:
            assert tail.value_s is None
            continue
        misses = 1
        while minimum_queries(misses + 1, tail.percentile) <= calls:
            misses += 1
        assert tail.value_s == calls - misses


def test_nothing_is_clipped() -> None:
    values = np.ones(64)
    values[10] = 1000.0
    assert tails(values)[0].value_s == 1000.0


def test_a_million_calls_give_nearly_the_plain_percentile() -> None:
    values = np.random.default_rng(0).permutation(1_000_000) / 1e6
    for tail in tails(values):
        deviation = (tail.percentile * (1 - tail.percentile) / 1e6) ** 0.5  # of the share of calls under the percentile
        assert tail.value_s == pytest.approx(tail.percentile + 2.33 * deviation, abs=0.05 * deviation)
