"""The report's figures as plotly figures: accuracy against latency, what each step did, latency blocks, distillation."""

from __future__ import annotations

import html
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from benchmarks.report import Interval, Latency, Report, Row
from benchmarks.tables import latency_at, main_point, score_of
from benchmarks.wording import MetricWording, milliseconds, working_point

COLOURS = ("#3987d8", "#e08a00", "#12a37f", "#c46aa4", "#d55e00", "#8f7ae6")
"""One a target; told apart by colour-blind readers and on light and dark ground."""
TORCH_COLOUR = "#8a8f98"
LAYOUT: Mapping[str, Any] = {
    "template": "none",
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"family": "system-ui, sans-serif", "size": 12, "color": "#777c85"},
    "margin": {"l": 50, "r": 16, "t": 24, "b": 56},
    "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
    "hoverlabel": {"align": "left"},
}
AXIS: Mapping[str, Any] = {
    "automargin": True,
    "gridcolor": "rgba(128,128,128,0.25)",
    "zeroline": False,
    "title": {"font": {"size": 12}},
}


def accuracy_latency_chart(report: Report) -> go.Figure:
    """Every engine that ran: metric difference to the original against latency, with both 95 % intervals."""
    wording, point = MetricWording.of(report), main_point(report)
    figure = go.Figure()
    for target, colour in _colours(report).items():
        drawn = [(row, latency_at(row, point)) for row in report.rows if row.target == target and point]
        shown = [(row, latency) for row, latency in drawn if latency and _difference(row)]
        if shown:
            figure.add_trace(_engine_points(target, colour, shown, wording))
    figure.update_layout(LAYOUT, height=440)
    _latency_axis(figure, report)
    figure.update_yaxes(
        AXIS, zeroline=True, zerolinecolor="rgba(128,128,128,0.6)", title_text=_difference_title(wording)
    )
    drop = report.budget.get("metric_drop")
    if isinstance(drop, (int, float)):
        allowed = wording.scale * (-drop if report.higher_is_better else drop)
        figure.add_hline(allowed, line={"dash": "dot", "color": "#d5463c", "width": 1})
        figure.add_annotation(
            x=1, xref="paper", xanchor="right", y=allowed, yanchor="top", text="the budget's limit", showarrow=False
        )
    return figure


def steps_chart(report: Report) -> go.Figure:
    """For each target, latency and metric difference after each step in FP32, and of what ships."""
    wording, point = MetricWording.of(report), main_point(report)
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    for target, colour in _colours(report, torch=False).items():
        steps = list(_journey(report, target))
        latencies = [(label, latency) for label, row in steps if point and (latency := latency_at(row, point))]
        differences = [(label, difference) for label, row in steps if (difference := _difference(row))]
        if latencies:
            figure.add_trace(_latency_bars(target, colour, latencies), row=1, col=1)
        if differences:
            figure.add_trace(_difference_line(target, colour, differences, wording), row=2, col=1)
    figure.update_layout(LAYOUT, height=540, barmode="group", scattermode="group")
    figure.update_xaxes(AXIS, showgrid=False)
    figure.update_yaxes(AXIS)
    figure.update_yaxes(title_text="latency, ms", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(
        title_text=f"difference{wording.difference_unit.replace(' ', ', ')}", zeroline=True, row=2, col=1
    )
    return figure


def latency_chart(report: Report) -> go.Figure:
    """Every block median of every engine at the main working point, as boxes with their points."""
    point = main_point(report)
    figure = go.Figure()
    engines = 0
    for target, colour in _colours(report).items():
        rows = [(row, latency_at(row, point)) for row in report.rows if row.target == target and point]
        shown = [(row, latency) for row, latency in rows if latency]
        engines += len(shown)
        if shown:
            figure.add_trace(_block_boxes(target, colour, shown))
    figure.update_layout(LAYOUT, height=120 + 34 * engines, boxgap=0.25)
    _latency_axis(figure, report)
    figure.update_yaxes(AXIS, autorange="reversed", tickfont={"size": 11})
    return figure


def distillation_chart(epochs: Sequence[Mapping[str, Any]]) -> go.Figure | None:
    """Loss and validation metric of each epoch; None if the entries are not of that shape."""
    if not all(isinstance(entry, Mapping) and _is_number(entry.get("epoch")) for entry in epochs):
        return None
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.1)
    numbers = [entry["epoch"] for entry in epochs]
    for row, key in enumerate(("loss", "validation"), start=1):
        values = [entry.get(key) if _is_number(entry.get(key)) else None for entry in epochs]
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
                x=[_plain(run) for run, _ in runs],
                y=[interval.value for interval in intervals],
                error_y=_errors(intervals, 1.0),
                mode="markers",
                name=_plain(target),
                marker={"size": 10, "color": COLOURS[index % len(COLOURS)]},
            )
        )
    figure.update_layout(LAYOUT, height=360, scattermode="group")
    figure.update_xaxes(AXIS, type="category")
    figure.update_yaxes(AXIS, title_text="times faster than runtime FP32")
    return figure


def median_interval(samples_s: Sequence[float]) -> Interval:
    """The median of independent samples and its distribution-free 95 % interval, from order statistics.

    With fewer than six samples no such interval reaches 95 %; the extremes then stand for it.

    Source: Campbell and Gardner 1988, BMJ 296:1454, ranks n/2 - 1.96 sqrt(n)/2 and 1 + n/2 + 1.96 sqrt(n)/2.
    """
    ordered, size = sorted(samples_s), len(samples_s)
    half = 1.96 * math.sqrt(size) / 2
    low, high = max(1, round(size / 2 - half)), min(size, round(1 + size / 2 + half))
    return Interval(statistics.median(ordered), ordered[low - 1], ordered[high - 1])


def _engine_points(
    target: str, colour: str, shown: Sequence[tuple[Row, Latency]], wording: MetricWording
) -> go.Scatter:
    latencies = [median_interval(latency.blocks_s) for _, latency in shown]
    differences = [_difference(row) or Interval(0.0, 0.0, 0.0) for row, _ in shown]
    chosen = [row.role == "chosen" for row, _ in shown]
    return go.Scatter(
        x=[1000 * latency.median_s for _, latency in shown],
        y=[wording.scale * difference.value for difference in differences],
        error_x=_errors(latencies, 1000.0),
        error_y=_errors(differences, wording.scale),
        mode="markers+text",
        name=_plain(target),
        text=[f"<b>{_plain(row.scheme)}</b>" if ships else "" for (row, _), ships in zip(shown, chosen, strict=True)],
        textposition="top right",
        marker={
            "color": colour,
            "size": [14 if ships else 9 for ships in chosen],
            "symbol": ["star" if ships else "circle" for ships in chosen],
            "opacity": 1,
        },
        customdata=[_hover(row, latency, wording) for row, latency in shown],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _block_boxes(target: str, colour: str, shown: Sequence[tuple[Row, Latency]]) -> go.Box:
    engines = [f"{row.stage} {row.scheme}" for row, latency in shown for _ in latency.blocks_s]
    return go.Box(
        x=[1000 * block for _, latency in shown for block in latency.blocks_s],
        y=[[_plain(target)] * len(engines), [_plain(engine) for engine in engines]],
        name=_plain(target),
        orientation="h",
        boxpoints="all",
        jitter=0.5,
        pointpos=0,
        marker={"color": colour, "size": 3, "opacity": 0.5},
        line={"width": 1},
        showlegend=False,
    )


def _latency_bars(target: str, colour: str, latencies: Sequence[tuple[str, Latency]]) -> go.Bar:
    return go.Bar(
        x=[label for label, _ in latencies],
        y=[1000 * latency.median_s for _, latency in latencies],
        text=[milliseconds(latency.median_s) for _, latency in latencies],
        name=_plain(target),
        legendgroup=_plain(target),
        textposition="outside",
        textangle=0,
        cliponaxis=False,
        marker={"color": colour},
        hovertemplate="%{x}: %{text} ms",
    )


def _difference_line(
    target: str, colour: str, differences: Sequence[tuple[str, Interval]], wording: MetricWording
) -> go.Scatter:
    intervals = [interval for _, interval in differences]
    return go.Scatter(
        x=[label for label, _ in differences],
        y=[wording.scale * interval.value for interval in intervals],
        error_y=_errors(intervals, wording.scale),
        mode="markers",
        name=_plain(target),
        legendgroup=_plain(target),
        showlegend=False,
        marker={"color": colour, "size": 9},
        text=[wording.difference(interval) + wording.difference_unit for interval in intervals],
        hovertemplate="%{x}: %{text}",
    )


def _hover(row: Row, latency: Latency, wording: MetricWording) -> str:
    score = score_of(row)
    interval = median_interval(latency.blocks_s)
    return "<br>".join(
        (
            _plain(f"{row.target}: {row.stage} {row.scheme}"),
            f"{milliseconds(latency.median_s)} ms [{milliseconds(interval.low)}, {milliseconds(interval.high)}]",
            f"{wording.difference(score.difference)}{wording.difference_unit} on {score.split}" if score else "",
        )
    )


def _journey(report: Report, target: str) -> Iterable[tuple[str, Row]]:
    """The original, the stages in FP32 and what ships, with the words under them."""
    for row in report.rows:
        if row.target == target and row.role in ("reference", "stage"):
            yield _plain(row.stage), row
    chosen = report.chosen(target)
    if chosen:
        yield "what ships", chosen


def _colours(report: Report, torch: bool = True) -> dict[str, str]:
    colours = {target: COLOURS[index % len(COLOURS)] for index, target in enumerate(report.targets)}
    return {"torch": TORCH_COLOUR, **colours} if torch else colours


def _difference(row: Row) -> Interval | None:
    """To the original in torch, which differs from itself by nothing; None where nothing was scored."""
    score = score_of(row)
    return (score.difference or Interval(0.0, 0.0, 0.0)) if score else None


def _errors(intervals: Sequence[Interval], scale: float) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [scale * (interval.high - interval.value) for interval in intervals],
        "arrayminus": [scale * (interval.value - interval.low) for interval in intervals],
        "thickness": 1,
        "width": 3,
    }


def _latency_axis(figure: go.Figure, report: Report) -> None:
    """Milliseconds; logarithmic with ticks at 1, 2 and 5 where the engines lie far apart."""
    point = main_point(report)
    found = [latency.median_s for row in report.rows if point and (latency := latency_at(row, point))]
    title = f"ms ({_plain(working_point(point))})" if point else "ms"
    figure.update_xaxes(AXIS, title_text=title)
    if found and max(found) > 4 * min(found):
        ticks = [factor * 10.0**power for power in range(-6, 7) for factor in (1, 2, 5)]
        figure.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])


def _difference_title(wording: MetricWording) -> str:
    return f"{_plain(wording.name)} difference to the original{wording.difference_unit.replace(' ', ', ')}"


def _plain(text: str) -> str:
    """Text that plotly shows as it is: it would read tags as markup."""
    return html.escape(text, quote=False)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
