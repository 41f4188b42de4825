from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.comparison.moves import Move, latency_move, metric_move, percent, percent_ends, ratio_move, size_move
from benchmarks.measurements import Interval, Latency
from benchmarks.metrics import F1, Accuracy, EntityF1, Metric, Perplexity, TopK
from benchmarks.report import McNemar, Score


def scored(metric: Metric, rows: np.ndarray, difference: Interval | None = None) -> Score:
    return Score(metric.name, "evaluation", len(rows), metric.value(rows), difference)


def answers(wrong: slice, samples: int = 1000) -> np.ndarray:
    """Rows of two classes, right but for some; the last column is the hit of TopK."""
    truth = np.arange(samples) % 2
    predicted = truth.copy()
    predicted[wrong] = 1 - predicted[wrong]
    return np.stack([predicted, truth, np.full(samples, 0.9), predicted == truth], axis=1).astype(np.float64)


def test_the_move_of_a_ratio_adds_half_widths_in_quadrature_on_the_log_scale() -> None:
    """ln 2 known to 3 % against ln 1.8 known to 4 %: the difference is known to 5 %."""
    before = Interval(1.8, 1.8 * math.exp(-0.04), 1.8 * math.exp(0.04))
    now = Interval(2.0, 2.0 * math.exp(-0.03), 2.0 * math.exp(0.03))
    move = ratio_move(before, now)
    assert move.interval is not None
    assert move.change == pytest.approx(2.0 / 1.8 - 1)
    assert move.interval.low == pytest.approx(2.0 / 1.8 * math.exp(-0.05) - 1)
    assert move.interval.high == pytest.approx(2.0 / 1.8 * math.exp(0.05) - 1)
    assert move.real is True


def test_each_side_takes_the_ends_that_pull_that_way() -> None:
    """Up: the end above of now and the end below of before."""
    move = ratio_move(Interval(1.0, 1.0, math.exp(0.3)), Interval(1.0, math.exp(-0.4), 1.0))
    assert move.interval is not None
    assert (math.log1p(move.interval.low), math.log1p(move.interval.high)) == pytest.approx((-0.5, 0.0))
    assert move.real is False


def test_the_plain_latency_moves_by_its_blocks() -> None:
    generator = np.random.default_rng(0)

    def latency(median_s: float) -> Latency:
        blocks = tuple(tuple(median_s * generator.lognormal(0, 0.01, 20)) for _ in range(5))
        return Latency(1, {}, 1, median_s, blocks)

    slower, same = latency_move(latency(0.001), latency(0.0011)), latency_move(latency(0.001), latency(0.001))
    assert slower.change == pytest.approx(0.1)
    assert (slower.real, same.real) == (True, False)


@pytest.mark.parametrize("metric", [Accuracy(), TopK(2), F1()])
def test_on_the_same_samples_a_small_move_is_real(metric: Metric) -> None:
    """Twelve more of a thousand wrong, on top of the same hundred."""
    before, now = answers(slice(0, 100)), answers(slice(0, 112))
    move = metric_move(scored(metric, before), scored(metric, now), (before, now))
    assert (move.paired, move.real) == (True, True)
    if metric.name == "f1_macro":
        assert move.mcnemar is None
    else:
        assert move.mcnemar == McNemar(12, 0, pytest.approx(2 / 2**12))


def test_a_move_of_four_samples_is_not_real_though_the_bootstrap_thinks_so() -> None:
    before, now = answers(slice(0, 0)), answers(slice(0, 4))
    move = metric_move(scored(Accuracy(), before), scored(Accuracy(), now), (before, now))
    assert move.interval is not None
    assert move.interval.high < 0
    assert move.mcnemar == McNemar(4, 0, pytest.approx(2 / 16))
    assert move.real is False


def test_the_same_size_of_move_on_other_samples_is_not() -> None:
    before, now = answers(slice(0, 100)), answers(slice(500, 612))
    move = metric_move(scored(Accuracy(), before), scored(Accuracy(), now), (before, now))
    assert move.change == pytest.approx(-0.012)
    assert (move.paired, move.real) == (True, False)


def test_without_samples_the_intervals_are_put_together_as_independent() -> None:
    before = Score("accuracy", "evaluation", 100, 0.9, Interval(-0.01, -0.04, 0.02))
    now = Score("accuracy", "evaluation", 100, 0.8, Interval(-0.11, -0.15, -0.07))
    move = metric_move(before, now, None)
    assert move.interval is not None
    assert (move.change, move.interval.low, move.interval.high) == pytest.approx((-0.1, -0.15, -0.05))
    assert (move.paired, move.real, move.mcnemar) == (False, True, None)


def test_rows_that_do_not_give_the_scores_value_are_not_used() -> None:
    before, now = answers(slice(0, 100)), answers(slice(0, 112))
    other = Score("accuracy", "evaluation", 1000, 0.5)
    assert metric_move(scored(Accuracy(), before), other, (before, now)) == Move(0.5 - 0.9)


@pytest.mark.parametrize("now", [answers(slice(0, 100), samples=500), answers(slice(0, 100))[::-1]])
def test_rows_of_other_samples_are_not_paired(now: np.ndarray) -> None:
    before = answers(slice(0, 100))
    assert not metric_move(scored(Accuracy(), before), scored(Accuracy(), now), (before, now)).paired


@pytest.mark.parametrize("tokens", [12.0, 14.0])
def test_a_metric_that_does_not_classify_is_paired_too(tokens: float) -> None:
    """Every sample's loss rises by a hundredth of a nat a token, while the samples lie two nats apart."""
    nats = np.random.default_rng(0).uniform(1.0, 3.0, size=400)
    before = np.stack([tokens * nats, np.full(400, tokens)], axis=1)
    now = before + np.array([0.01 * tokens, 0.0])
    move = metric_move(scored(Perplexity(), before), scored(Perplexity(), now), (before, now))
    assert move.change == pytest.approx(math.exp(nats.mean()) * math.expm1(0.01))
    assert (move.paired, move.real, move.mcnemar) == (True, True, None)


def test_entities_are_paired_though_what_is_predicted_in_each_sample_differs() -> None:
    """Column 1 holds no truth there: the second run predicts one entity less in every tenth sample."""
    before = np.tile([2.0, 3.0, 2.0], (300, 1))
    now = before - np.where(np.arange(300)[:, None] % 10 == 0, [1.0, 1.0, 0.0], 0.0)
    metric = EntityF1(("O", "B-PER"))
    move = metric_move(scored(metric, before), scored(metric, now), (before, now))
    assert (move.paired, move.real) == (True, True)


def test_without_the_metrics_library_the_intervals_are_put_together_as_independent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("benchmarks.metrics.text.find_spec", lambda name: None)
    before = Score("bleu", "evaluation", 100, 31.4, Interval(-0.1, -0.4, 0.2))
    now = Score("bleu", "evaluation", 100, 30.4, Interval(-1.1, -1.5, -0.7))
    move = metric_move(before, now, (np.ones((100, 10)), np.ones((100, 10))))
    assert move.paired is False and move.interval is not None
    assert (move.change, move.interval.low, move.interval.high) == pytest.approx((-1.0, -1.5, -0.5))


def test_a_users_own_metric_is_not_paired() -> None:
    rows = answers(slice(0, 10))
    own = Score("my_metric", "evaluation", 1000, 0.99)
    assert not metric_move(own, own, (rows, rows)).paired


def test_moves_are_spelled_in_percent() -> None:
    assert size_move(100, 105).real is None
    assert (percent(size_move(100, 105)), percent_ends(size_move(100, 105))) == ("+5.0 %", "")
    move = Move(-0.1, Interval(-0.1, -0.121, -0.078))
    assert (percent(move), percent_ends(move)) == ("−10.0 %", "[−12.1, −7.8]")
    assert (percent(None), percent_ends(None)) == ("", "")
