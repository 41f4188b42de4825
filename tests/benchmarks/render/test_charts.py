from __future__ import annotations

import math
from dataclasses import replace

import pytest

from benchmarks.measurements import Interval
from benchmarks.render.chart_style import median_interval, shortened, wrapped
from benchmarks.render.charts import distillation_chart, waterfall_chart
from benchmarks.render.charts_accuracy import class_chart, flip_image, worst_classes
from benchmarks.render.charts_latency import block_chart, distribution_chart, layer_chart, throughput_chart
from benchmarks.render.charts_trade_off import accuracy_latency_chart, pareto_front
from benchmarks.report import Report
from tests.benchmarks.render.made_up import made_up_report, with_row
from tests.benchmarks.render.made_up_extremes import SHIPS, crowded_report

REPORT = made_up_report()


def test_charts_escape_what_plotly_would_read_as_markup() -> None:
    report = with_row(REPORT, SHIPS, stage="<b>s</b>", scheme="<a href='x'>int8</a>")
    charts = [draw(report, "openvino") for draw in (waterfall_chart, distribution_chart, block_chart, throughput_chart)]
    for chart in (accuracy_latency_chart(report), *charts):
        assert chart is not None
        drawn = chart.to_json()
        assert "<a href" not in drawn and "\\u003ca href" not in drawn
        assert "<b>s" not in drawn and "\\u003cb\\u003es" not in drawn


def test_only_what_ran_is_drawn_and_the_control_is_no_engine() -> None:
    chart = accuracy_latency_chart(REPORT)
    assert chart is not None
    points = {trace.name: len(trace.x) for trace in chart.data}
    assert points == {"torch": 1, "openvino": 5, "onnxruntime_mobile": 4, "Pareto front": 2}
    assert waterfall_chart(REPORT, "tensorrt") is None
    assert block_chart(REPORT, "tensorrt") is None


def test_accuracy_against_latency_carries_both_intervals() -> None:
    chart = accuracy_latency_chart(REPORT)
    assert chart is not None
    openvino = chart.data[1]
    assert openvino.error_y.array[4] == pytest.approx(0.48)
    assert openvino.error_y.arrayminus[4] == pytest.approx(0.51)
    assert min(openvino.error_x.array) > 0
    assert openvino.marker.symbol == ("circle",) * 4 + ("star",)
    assert [trace.textposition for trace in chart.data[1:3]] == [
        "top right",
        "bottom right",
    ]  # the better star is on top


def test_a_collapsed_engine_does_not_squash_the_others() -> None:
    score = REPORT.rows[2].validation
    assert score is not None
    collapsed = replace(score, value=0.41, difference=Interval(-0.5623, -0.6195, -0.5051))
    chart = accuracy_latency_chart(with_row(REPORT, 2, validation=collapsed))
    assert chart is not None
    low, high = chart.layout.yaxis.range
    assert -6 < low < -4.2 and 0.4 < high < 2
    assert "1 more outside, as far as −56.23 pp<br>(a double click shows all)" in [
        note.text for note in chart.layout.annotations
    ]
    whole = accuracy_latency_chart(REPORT)
    assert whole is not None and whole.layout.yaxis.range is None


@pytest.mark.parametrize(
    ("budget", "higher_is_better", "limit"),
    [
        ({"metric_drop": 0.01}, True, -1.0),
        ({"metric_drop_percent": 3}, True, -0.03 * 97.42),
        ({"metric_drop_percent": 3}, False, 0.03 * 97.42),
        ({"metric_drop": 0.01, "metric_drop_percent": 3}, True, -1.0),
    ],
)
def test_the_budgets_limit_is_a_line(budget: dict[str, float], higher_is_better: bool, limit: float) -> None:
    """In points; the original scores 97.42 %."""
    chart = accuracy_latency_chart(replace(REPORT, budget=budget, higher_is_better=higher_is_better))
    assert chart is not None
    [line] = chart.layout.shapes
    assert line.y0 == pytest.approx(limit)


def test_without_a_limit_there_is_no_line() -> None:
    chart = accuracy_latency_chart(replace(REPORT, budget={"speedup": 1.5, "metric_drop": None}))
    assert chart is not None and chart.layout.shapes == ()


def test_the_pareto_front_leaves_out_what_another_beats_or_equals() -> None:
    points = [(3.0, 0.9), (1.0, 0.5), (2.0, 0.7), (2.5, 0.6), (1.0, 0.4), (4.0, 0.9)]
    assert pareto_front(points, higher_is_better=True) == ((1.0, 0.5), (2.0, 0.7), (3.0, 0.9))
    assert pareto_front(points, higher_is_better=False) == ((1.0, 0.4),)


def test_the_waterfall_adds_up_to_what_ships() -> None:
    chart = waterfall_chart(REPORT, "openvino")
    assert chart is not None
    fall, points = chart.data
    assert fall.measure == ("absolute", "relative", "relative", "relative", "total")
    assert fall.y[:2] == pytest.approx((1.21, -0.38))
    assert sum(fall.y) == pytest.approx(0.523)
    assert tuple(chart.layout.xaxis.ticktext) == ("original", "prune", "distill", "int8", "ships")
    assert tuple(points.y) == pytest.approx((0.0, -4.2, -0.4, -0.25))
    assert points.marker.symbol == ("circle", "circle-open", "circle-open", "circle")


def test_the_slowest_call_stands_at_its_own_percentile() -> None:
    chart = distribution_chart(REPORT, "openvino")
    assert chart is not None
    shipped = REPORT.rows[SHIPS].latency[0]
    line = next(trace for trace in chart.data if trace.name == "<b>distill int8</b>")
    assert line.x[50] == pytest.approx(2.0)
    assert line.x[90] == pytest.approx(10.0)
    assert line.x[-1] == pytest.approx(shipped.calls)
    assert line.y[-1] == pytest.approx(1000 * shipped.distribution_s[-1])


def test_only_supported_tails_are_marked() -> None:
    chart = distribution_chart(REPORT, "openvino")
    assert chart is not None
    marks = [trace for trace in chart.data if trace.mode == "markers"]
    supported = [
        [tail for tail in row.latency[0].tails if tail.value_s] for row in REPORT.rows if row.target == "openvino"
    ]
    assert [len(trace.x) for trace in marks] == [len(tails) for tails in supported if tails]
    assert max(x for trace in marks for x in trace.x) == pytest.approx(100.0)  # p99: 6,636 calls were never made


def test_every_block_of_every_engine_is_drawn() -> None:
    chart = block_chart(REPORT, "openvino")
    assert chart is not None
    assert [len(trace.x) for trace in chart.data] == [40] * 6
    assert chart.layout.yaxis.ticktext[-1] == "original<br>fp32 (A/A)"


def test_throughput_is_drawn_with_the_interval_of_its_blocks() -> None:
    chart = throughput_chart(REPORT, "openvino")
    assert chart is not None
    found = REPORT.rows[SHIPS].throughput
    assert found is not None
    assert chart.data[0].x[1] == found.samples_per_s
    assert chart.data[0].error_x.array[1] > 0


def test_layers_before_and_after_add_up_to_the_whole() -> None:
    chart = layer_chart(REPORT, "openvino")
    assert chart is not None
    before = sum(sum(trace.x) for trace in chart.data if trace.xaxis == "x")
    after = sum(sum(trace.x) for trace in chart.data if trace.xaxis == "x2")
    assert (before, after) == (pytest.approx(1.21), pytest.approx(0.523))
    assert {trace.name for trace in chart.data} == {"int8", "fp32"}
    assert [trace.showlegend for trace in chart.data].count(True) == 2


def test_more_kinds_of_layers_than_fit_share_a_bar_and_lose_no_time() -> None:
    layers = tuple(
        layer.__class__(layer.name, f"Kind{index}", "int4", 0.001)
        for index, layer in enumerate(REPORT.rows[SHIPS].layers)
    )
    chart = layer_chart(with_row(REPORT, SHIPS, layers=layers), "openvino")
    assert chart is not None
    assert chart.layout.yaxis.ticktext[-1] == "others"
    after = [trace for trace in chart.data if trace.xaxis == "x2"]
    assert [trace.name for trace in after] == ["other"]
    assert sum(after[0].x) == pytest.approx(20.0)


def test_classes_begin_with_the_largest_drop() -> None:
    evaluation = REPORT.rows[SHIPS].evaluation
    assert evaluation is not None
    chart = class_chart(evaluation.classes)
    assert tuple(chart.layout.yaxis.ticktext[:3]) == ("6", "8", "1")
    after = next(trace for trace in chart.data if trace.name == "what ships")
    assert after.x[0] == pytest.approx(90.9)
    assert after.error_x.array[0] == pytest.approx(9.1)


def test_of_many_classes_the_worst_are_drawn() -> None:
    evaluation = crowded_report().rows[SHIPS].evaluation
    assert evaluation is not None
    chart = class_chart(evaluation.classes)
    assert len(chart.layout.yaxis.ticktext) == 30
    assert worst_classes(evaluation.classes, 1)[0].after == pytest.approx(0.82)


def test_images_keep_their_pixels_and_large_ones_are_thinned_out() -> None:
    grey = flip_image(REPORT.gallery[0]).data[0].z
    assert grey.shape == (8, 8, 3)
    assert (grey[..., 0] == grey[..., 1]).all() and (grey[..., 0] == grey[..., 2]).all()
    colour = flip_image(REPORT.gallery[3]).data[0].z
    assert colour.shape == (16, 16, 3)
    assert (colour[..., 0] != colour[..., 1]).any()
    assert flip_image(crowded_report().gallery[0]).data[0].z.shape == (56, 56, 3)


def test_a_target_whose_classes_and_layers_are_unknown_has_no_chart_of_them() -> None:
    assert layer_chart(with_row(with_row(REPORT, SHIPS, layers=()), 1, layers=()), "openvino") is None


def test_a_report_without_latency_has_no_accuracy_chart() -> None:
    empty = Report(**{**{name: getattr(REPORT, name) for name in REPORT.__dataclass_fields__}, "rows": ()})
    assert accuracy_latency_chart(empty) is None


def test_distillation_facts_of_another_shape_are_no_chart() -> None:
    assert distillation_chart([{"step": 1}]) is None
    assert distillation_chart([{"epoch": 1, "loss": 0.5, "validation": "none"}]) is not None


@pytest.mark.parametrize("size", [6, 10, 20, 40, 101])
def test_median_interval_covers_the_median_as_the_binomial_says(size: int) -> None:
    interval = median_interval([float(rank) for rank in range(1, size + 1)])
    assert interval.value == (size + 1) / 2
    # The median of the population lies between two ranks when at least `low` and fewer than `high` samples are below it.
    held = sum(math.comb(size, below) for below in range(int(interval.low), int(interval.high))) / 2**size
    assert 0.94 <= held <= 0.98


def test_median_interval_of_few_samples_is_their_range() -> None:
    assert median_interval([3.0, 1.0]) == Interval(2.0, 1.0, 3.0)


def test_long_names_keep_both_ends() -> None:
    assert shortened("int8_static_per_channel_nncf", 14) == "int8_st…l_nncf"
    assert shortened("int8", 14) == "int8"
    assert wrapped("/layer1/layer1.0/conv1/Conv", 12) == "/layer1/<br>layer1.0/<br>conv1/Conv"
    assert wrapped("<b>x</b>") == "&lt;b&gt;x&lt;/b&gt;"
