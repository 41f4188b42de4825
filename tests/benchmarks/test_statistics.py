from __future__ import annotations

import numpy as np
import pytest

from benchmarks.statistics import WIDER, paired_difference, ratio_interval, student_t


def accuracy(rows: np.ndarray) -> float:
    return float(np.mean(rows[:, 0] == rows[:, 1]))


@pytest.mark.parametrize("processes", [5, 10])
@pytest.mark.parametrize("between", [0.0, 0.01])
def test_the_ratio_of_equal_engines_holds_one_about_as_often_as_it_says(processes: int, between: float) -> None:
    generator = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        logs = generator.normal(0, between, processes)[:, None] + generator.laplace(0, 0.015, (processes, 8))
        interval = ratio_interval(list(np.exp(logs)), list(np.ones_like(logs)), seed=seed)
        held += interval.low <= 1.0 <= interval.high
    assert 180 <= held <= 199  # 95 % of 200 is 190; at a true 95 % the chance of fewer than 180 is 0.2 %


def test_processes_that_differ_widen_the_interval_however_many_rounds_they_have() -> None:
    generator = np.random.default_rng(1)
    shifts = [0.95, 1.05, 0.97, 1.02, 1.01]
    interval = ratio_interval([shift * generator.lognormal(0, 0.001, 500) for shift in shifts], [np.ones(500)] * 5)
    assert (interval.high - interval.low) / 2 > 0.02


def test_a_round_gone_wild_does_not_move_it() -> None:
    generator = np.random.default_rng(2)
    slower = [generator.lognormal(0, 0.01, 20) for _ in range(5)]
    calm = ratio_interval(slower, [np.ones(20)] * 5)
    slower[0][3] = 50.0
    wild = ratio_interval(slower, [np.ones(20)] * 5)
    assert (wild.low, wild.high) == pytest.approx((calm.low, calm.high), abs=0.005)


def test_the_interval_is_students_over_the_processes_medians() -> None:
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(3)
    slower = [generator.lognormal(shift, 0.01, 9) for shift in (0.5, 0.52, 0.47, 0.51, 0.55, 0.49)]
    faster = [generator.lognormal(0, 0.01, 9) for _ in slower]
    medians = [np.median(np.log(one / other)) for one, other in zip(slower, faster, strict=True)]
    low, high = stats.t.interval(0.95, 5, loc=np.mean(medians), scale=WIDER * stats.sem(medians))
    found = ratio_interval(slower, faster)
    assert (found.low, found.value, found.high) == pytest.approx(
        (np.exp(low), np.exp(np.mean(medians)), np.exp(high)), rel=1e-3
    )


def test_of_a_single_process_the_interval_is_that_of_its_rounds() -> None:
    generator = np.random.default_rng(4)
    found = ratio_interval([generator.lognormal(0.7, 0.02, 400)], [np.ones(400)])
    expected = 1.96 * 1.2533 * 0.02 / np.sqrt(400)  # the standard error of a normal sample's median
    assert (found.high - found.low) / 2 / found.value == pytest.approx(expected, rel=0.4)


@pytest.mark.parametrize(("freedom", "point"), [(1, 12.706), (4, 2.776), (9, 2.262), (40, 2.021), (1e9, 1.960)])
def test_students_t(freedom: float, point: float) -> None:
    assert student_t(freedom) == pytest.approx(point, rel=0.003)  # published tables


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


def test_an_honest_control_that_is_measured_on_while_it_misses_hardly_ever_ends_as_a_miss() -> None:
    processes = np.random.default_rng(5).normal(size=(40_000, 10))
    missing = np.ones(len(processes), bool)
    for count in range(5, 11):  # as `measure` looks: after the fifth process and each one more
        medians = processes[:, :count]
        half = WIDER * student_t(count - 1) * medians.std(axis=1, ddof=1) / np.sqrt(count)
        missing &= np.abs(medians.mean(axis=1)) > half
    assert 0.003 < missing.mean() < 0.01
