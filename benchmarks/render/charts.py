"""The run's figures as plotly figures: what each step cost and bought, the epochs of a training, runs side by side."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from benchmarks.measurements import Interval, Latency
from benchmarks.render.chart_style import (
    AXIS,
    BAD,
    COLOURS,
    GOOD,
    LAYOUT,
    errors,
    is_number,
    plain,
    target_colours,
    wrapped,
)
from benchmarks.render.tables import difference_of, latency_at, main_point
from benchmarks.render.wording import MetricWording, milliseconds, significant
from benchmarks.report import Report, Row

STEP_WIDTH = 10
"""Characters of a step's name in one line under the waterfall."""


def waterfall_chart(report: Report, target: str) -> go.Figure | None:
    """Milliseconds that each step took off, from the original in FP32 to what ships; under it the metric's difference.

    None where fewer than two of them were measured on the target.
    """
    wording, point = MetricWording.of(report), main_point(report)
    steps = [
        (label, row, latency)
        for label, row in _journey(report, target)
        if point and (latency := latency_at(row, point)) is not None
    ]
    if len(steps) < 2:
        return None
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.1, row_heights=[0.6, 0.4])
    figure.add_trace(_waterfall(steps, target_colours(report)[target]), row=1, col=1)
    scored = [(index, row, found) for index, (_, row, _) in enumerate(steps) if (found := difference_of(row))]
    if scored:
        figure.add_trace(_difference_points(scored, target_colours(report)[target], wording), row=2, col=1)
    labels = [wrapped(label, STEP_WIDTH) for label, _, _ in steps]
    figure.update_layout(LAYOUT, height=430, showlegend=False)
    figure.update_xaxes(
        AXIS,
        showgrid=False,
        tickvals=[*range(len(steps)), len(steps)],
        ticktext=[*labels, "ships"],
        tickfont={"size": 11},
    )
    figure.update_xaxes(tickangle=0 if len(steps) < 6 else 90)
    figure.update_yaxes(AXIS)
    figure.update_yaxes(title_text="latency, ms", rangemode="tozero", row=1, col=1)
    difference = f"{plain(wording.name)[:16]}<br>difference{wording.difference_unit.replace(' ', ', ')}"
    figure.update_yaxes(title_text=difference, zeroline=True, zerolinecolor="rgba(128,128,128,0.6)", row=2, col=1)
    return figure


def distillation_chart(epochs: Sequence[Mapping[str, Any]]) -> go.Figure | None:
    """Loss and validation metric of each epoch; None if the entries are not of that shape."""
    if not all(isinstance(entry, Mapping) and is_number(entry.get("epoch")) for entry in epochs):
        return None
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.1)
    numbers = [entry["epoch"] for entry in epochs]
    for row, key in enumerate(("loss", "validation"), start=1):
        values = [entry.get(key) if is_number(entry.get(key)) else None for entry in epochs]
        line = go.Scatter(x=numbers, y=values, name=key, mode="lines+markers", line={"color": COLOURS[0]})
        figure.add_trace(line, row=row, col=1)
        figure.update_yaxes(AXIS, title_text=key, row=row, col=1)
    figure.update_layout(LAYOUT, height=360, showlegend=False)
    figure.update_xaxes(AXIS, dtick=max(1, len(epochs) // 10))
    figure.update_xaxes(title_text="epoch", row=2, col=1)
    return figure


def ratio_chart(ratios: Mapping[str, Sequence[tuple[str, Interval]]]) -> go.Figure:
    """For each target (key) the runs' speed-ups over the same runtime's FP32, with their 95 % intervals."""
    figure = go.Figure()
    for index, (target, runs) in enumerate(ratios.items()):
        intervals = [interval for _, interval in runs]
        figure.add_trace(
            go.Scatter(
                x=[plain(run) for run, _ in runs],
                y=[interval.value for interval in intervals],
                error_y=errors(intervals, 1.0),
                mode="markers",
                name=plain(target),
                marker={"size": 10, "color": COLOURS[index % len(COLOURS)]},
            )
        )
    figure.update_layout(LAYOUT, height=360, scattermode="group")
    figure.update_xaxes(AXIS, type="category")
    figure.update_yaxes(AXIS, title_text="times faster than runtime FP32")
    return figure


def _waterfall(steps: Sequence[tuple[str, Row, Latency]], colour: str) -> go.Waterfall:
    medians = [1000 * latency.median_s for _, _, latency in steps]
    saved = [now - before for before, now in itertools.pairwise(medians)]
    ends = [milliseconds(latency.median_s) for latency in (steps[0][2], steps[-1][2])]
    return go.Waterfall(
        x=list(range(len(steps) + 1)),
        y=[medians[0], *saved, 0],
        measure=["absolute", *["relative"] * len(saved), "total"],
        text=[ends[0], *(f"{'+' if change > 0 else ''}{significant(change, 2)}" for change in saved), ends[1]],
        textposition="outside",
        cliponaxis=False,
        increasing={"marker": {"color": BAD}},
        decreasing={"marker": {"color": GOOD}},
        totals={"marker": {"color": colour}},
        connector={"line": {"color": "rgba(128,128,128,0.6)", "width": 1}},
        hovertemplate="%{text} ms<extra></extra>",
    )


def _difference_points(scored: Sequence[tuple[int, Row, Interval]], colour: str, wording: MetricWording) -> go.Scatter:
    intervals = [interval for _, _, interval in scored]
    return go.Scatter(
        x=[index for index, _, _ in scored],
        y=[wording.scale * interval.value for interval in intervals],
        error_y=errors(intervals, wording.scale),
        mode="markers+text",
        text=[wording.change(interval.value) for interval in intervals],
        textposition="top right",
        cliponaxis=False,
        marker={
            "color": colour,
            "size": 9,
            "symbol": ["circle" if row.evaluation else "circle-open" for _, row, _ in scored],
        },
        customdata=[wording.difference(interval) + wording.difference_unit for interval in intervals],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _journey(report: Report, target: str) -> Iterable[tuple[str, Row]]:
    """The original, the stages in FP32 and what ships, with the words under them."""
    for row in report.rows:
        if row.target == target and row.role in ("reference", "stage"):
            yield row.stage, row
    chosen = report.chosen(target)
    if chosen:
        yield chosen.scheme, chosen
