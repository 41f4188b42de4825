from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.comparison.compare import compare
from benchmarks.comparison.table import comparison_table
from benchmarks.measurements import Interval
from benchmarks.render.charts_trade_off import accuracy_latency_chart
from benchmarks.render.tables import engine_table, summary_table
from benchmarks.render.wording import (
    MetricWording,
    byte_size,
    count,
    direction_notes,
    duration,
    milliseconds,
    percent_change,
    ratio,
    signed,
    significant,
)
from tests.benchmarks.render.made_up import made_up_report


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.000523, "0.523"), (0.0054, "5.40"), (0.181, "181"), (1.24, "1240"), (0.0000412, "0.0412"), (0.99996, "1000")],
)
def test_milliseconds_keep_three_digits(seconds: float, words: str) -> None:
    assert milliseconds(seconds) == words


@pytest.mark.parametrize(("size", "words"), [(812, "812 B"), (92_412, "92.4 KB"), (999_999, "1.00 MB"), (None, "–")])
def test_bytes_in_decimal_units(size: int | None, words: str) -> None:
    assert byte_size(size) == words


def test_counts_are_exact_below_ten_thousand() -> None:
    assert (count(9_999), count(855_770), count(1.25e9)) == ("9999", "856 K", "1.25 G")


def test_ratio_shows_its_interval() -> None:
    assert ratio(Interval(2.412, 2.381, 2.449)) == "2.41x [2.38, 2.45]"
    assert ratio(Interval(12.34, 11.95, 12.71)) == "12.3x [11.9, 12.7]"


def test_rounding_to_zero_loses_the_sign() -> None:
    assert (signed(-0.001, 2), signed(-0.31, 2), signed(0.31, 2)) == ("0.00", "−0.31", "+0.31")


def test_durations_and_changes() -> None:
    assert (duration(0.42), duration(200), duration(3720)) == ("0.42 s", "3 min 20 s", "1 h 02 min")
    assert (percent_change(57, 100), percent_change(1, 0)) == ("−43 %", "")
    assert (significant(9.996), significant(-12_345.6)) == ("10.0", "−12346")


def test_a_share_is_percent_and_points() -> None:
    wording = MetricWording.of(made_up_report())
    assert wording.value(0.97417) == "97.42"
    assert wording.difference(Interval(-0.0031, -0.0062, 0.0001)) == "−0.31 [−0.62, +0.01]"
    assert (wording.unit, wording.difference_unit) == (" %", " pp")


def test_another_metric_stays_in_its_own_unit() -> None:
    wording = MetricWording.of(replace(made_up_report(), metric="perplexity"))
    assert (wording.value(12.3456), wording.change(-0.5), wording.difference_unit) == ("12.35", "−0.5000", "")


@pytest.mark.parametrize(
    "metric", ["token_accuracy", "f1_micro", "entity_f1", "mean_iou", "rouge1", "rouge2", "rougeL", "wer", "cer"]
)
def test_every_ready_made_share_is_percent(metric: str) -> None:
    wording = MetricWording.of_values(metric, [0.8312])
    assert (wording.value(0.8312), wording.unit, wording.change(-0.0031)) == ("83.12", " %", "−0.31")
    assert wording.limit(0.005) == "0.50"


@pytest.mark.parametrize(
    ("metric", "value", "change", "words"),
    [
        ("bleu", 31.4159, -0.309, ("31.42", "−0.31")),
        ("bleu", 0.8412, -0.309, ("0.8412", "−0.3090")),
        ("chrf", 57.04, 0.004, ("57.04", "0.00")),
        ("perplexity", 12.3456, 0.37, ("12.35", "+0.37")),
        ("perplexity", 1234.5, 41.7, ("1234", "+42")),
        ("mean_squared_error", 0.00052314, 0.0000310, ("0.0005231", "+0.0000310")),
        ("mean_squared_error", 0.0, 0.25, ("0", "+0.2500")),
    ],
)
def test_a_change_has_the_decimals_of_a_value(metric: str, value: float, change: float, words: tuple[str, str]) -> None:
    wording = MetricWording.of_values(metric, [value])
    assert (wording.value(value), wording.change(change)) == words
    assert (wording.unit, wording.difference_unit, wording.scale) == ("", "", 1.0)


def test_the_decimals_are_those_of_the_original_and_not_of_a_broken_engine() -> None:
    wording = MetricWording.of_values("perplexity", [12.3456, 1.0142e304])
    assert wording.change(0.37) == "+0.37"
    assert (wording.value(1.0142e304), wording.change(1.0142e304)) == ("1.014e+304", "+1.01e+304")


def test_a_limit_stands_as_the_recipe_has_it() -> None:
    assert MetricWording.of_values("perplexity", [12.3]).limit(0.5) == "0.5"
    assert MetricWording.of_values("mean_squared_error", [0.0005]).limit(0.00002) == "2e-05"


def test_a_metric_that_should_be_low_says_so_everywhere() -> None:
    report = replace(made_up_report(), metric="perplexity", higher_is_better=False)
    assert direction_notes("accuracy", True) == ()
    for table in (
        summary_table(report),
        engine_table(report),
        comparison_table(compare([("a", report), ("b", report)])),
    ):
        assert "perplexity: lower is better." in table.notes
    chart = accuracy_latency_chart(report)
    assert chart is not None
    assert chart.layout.yaxis.title.text == "perplexity difference to the original (lower is better)"
