from __future__ import annotations

import numpy as np
import pytest

from benchmarks.statistics import paired_difference, ratio_interval


def accuracy(rows: np.ndarray) -> float:
    return float(np.mean(rows[:, 0] == rows[:, 1]))


def test_the_ratio_of_equal_engines_holds_one_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    held = 0
    for seed in range(60):
        noise = (
            [generator.lognormal(0, 0.05, size=30) for _ in range(2)],
            [generator.lognormal(0, 0.05, size=30) for _ in range(2)],
        )
        interval = ratio_interval(*noise, seed=seed)
        held += interval.low <= 1.0 <= interval.high
    assert held >= 52  # 95 % of 60 is 57; the chance of fewer than 52 at a true 95 % is under 1 %


def test_drift_that_both_engines_share_cancels() -> None:
    drift = np.linspace(1, 5, 40)
    interval = ratio_interval([0.004 * drift], [0.002 * drift])
    assert (interval.low, interval.value, interval.high) == pytest.approx((2.0, 2.0, 2.0))


def test_the_paired_interval_agrees_with_the_normal_approximation() -> None:
    generator = np.random.default_rng(1)
    truth = generator.integers(0, 10, size=4000)
    original = np.stack([np.where(generator.random(4000) < 0.9, truth, -1), truth], axis=1).astype(float)
    changed = original.copy()
    worse = generator.random(4000) < 0.02
    changed[worse, 0] = -1
    interval = paired_difference(accuracy, changed, original)
    difference = (changed[:, 0] == truth).astype(float) - (original[:, 0] == truth)
    half = 1.96 * difference.std() / np.sqrt(4000)
    assert interval.value == pytest.approx(difference.mean())
    assert interval.low == pytest.approx(difference.mean() - half, abs=half * 0.15)
    assert interval.high == pytest.approx(difference.mean() + half, abs=half * 0.15)


def test_no_difference_has_no_width() -> None:
    rows = np.array([[1.0, 1.0], [0.0, 1.0]])
    interval = paired_difference(accuracy, rows, rows)
    assert (interval.low, interval.value, interval.high) == (0.0, 0.0, 0.0)
