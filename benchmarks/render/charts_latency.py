"""Figures of one target's time: the distribution of all calls, block medians, throughput, and the layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from benchmarks.measurements import Latency
from benchmarks.render.chart_style import (
    AXIS,
    COLOURS,
    DASHES,
    LAYOUT,
    PRECISION_COLOURS,
    TORCH_COLOUR,
    engine_label,
    errors,
    median_interval,
    plain,
    spread_axis,
    target_colours,
    wrapped,
)
from benchmarks.render.tables import latency_at, main_point
from benchmarks.render.wording import milliseconds, significant, working_point
from benchmarks.report import Report, Row
from targets.base import LayerTime

MOST_OPERATORS = 10
"""Kinds of operators with a bar of their own; the rest share one."""
NINES = (0.5, 0.9, 0.99, 0.999, 0.9999)
"""Ticks of the axis of percentiles."""


def distribution_chart(report: Report, target: str) -> go.Figure | None:
    """Latency at each percentile of all calls of every engine; tails are marked where the sample supports them.

    The axis of percentiles p is logarithmic in 1 / (1 - p), so that every further nine takes as much room, as in Tene's
    HdrHistogram plots. The slowest of n calls stands at 1 - 1/n.
    """
    shown = [(row, latency) for row, latency in _engines(report, target) if latency.distribution_s]
    if not shown:
        return None
    figure = go.Figure()
    for index, (row, latency) in enumerate(shown):
        figure.add_trace(_quantile_line(row, latency, index))
        supported = [tail for tail in latency.tails if tail.value_s is not None]
        if supported:
            figure.add_trace(
                go.Scatter(
                    x=[1 / (1 - tail.percentile) for tail in supported],
                    y=[1000 * (tail.value_s or 0.0) for tail in supported],
                    mode="markers",
                    marker={"symbol": "diamond", "size": 8, "color": _engine_colour(row, index)},
                    text=[f"p{100 * tail.percentile:g}: {milliseconds(tail.value_s)} ms" for tail in supported],
                    hovertemplate=f"{engine_label(row)}<br>%{{text}}<extra></extra>",
                    showlegend=False,
                )
            )
    figure.update_layout(LAYOUT, height=330 + 21 * len(shown))
    figure.update_xaxes(
        AXIS,
        type="log",
        tickvals=[1 / (1 - nines) for nines in NINES],
        ticktext=[f"{100 * nines:g} %" for nines in NINES],
        tickangle=0,
        title_text="share of calls that are as quick or quicker",
    )
    figure.update_yaxes(AXIS, title_text="ms")
    spread_axis(figure, [1000 * value for _, latency in shown for value in latency.distribution_s], "y")
    return figure


def block_chart(report: Report, target: str) -> go.Figure | None:
    """Every block median of every engine of a target at the main working point, as boxes with their points."""
    point, shown = main_point(report), _engines(report, target)
    if point is None or not shown:
        return None
    figure = go.Figure()
    for index, (row, latency) in enumerate(shown):
        figure.add_trace(
            go.Box(
                x=np.asarray(latency.blocks_s, np.float32) * 1000,
                y0=index,
                name=engine_label(row),
                orientation="h",
                boxpoints="all",
                jitter=0.5,
                pointpos=0,
                marker={"color": target_colours(report)[target], "size": 3, "opacity": 0.5},
                line={"width": 1},
                showlegend=False,
            )
        )
    figure.update_layout(LAYOUT, height=110 + 44 * len(shown), boxgap=0.3)
    figure.update_xaxes(AXIS, title_text=f"ms ({plain(working_point(point))})")
    spread_axis(figure, [1000 * latency.median_s for _, latency in shown])
    _name_rows(figure, [engine_label(row) for row, _ in shown])
    return figure


def throughput_chart(report: Report, target: str) -> go.Figure | None:
    """Samples a second of every engine of a target with concurrent requests; the interval is that of the block median."""
    shown = [(row, row.throughput) for row in report.rows if row.target == target and row.throughput]
    if not shown:
        return None
    intervals = [
        median_interval([block for process in found.block_samples_per_s for block in process] or [found.samples_per_s])
        for _, found in shown
    ]
    figure = go.Figure(
        go.Bar(
            x=[found.samples_per_s for _, found in shown],
            y=list(range(len(shown))),
            orientation="h",
            error_x={**errors(intervals, 1.0), "color": TORCH_COLOUR},
            text=[significant(found.samples_per_s) for _, found in shown],
            textposition="inside",
            insidetextanchor="start",
            insidetextfont={"color": "#ffffff"},
            marker={"color": target_colours(report)[target]},
            hovertemplate="%{text} samples/s<extra></extra>",
        )
    )
    figure.update_layout(LAYOUT, height=100 + 44 * len(shown), bargap=0.4)
    figure.update_xaxes(AXIS, title_text="samples/s, concurrent requests", rangemode="tozero")
    _name_rows(figure, [engine_label(row) for row, _ in shown])
    return figure


def layer_chart(report: Report, target: str) -> go.Figure | None:
    """Time of one inference by kind of operator and precision: of the original in FP32, and of what ships."""
    before, after = layer_rows(report, target)
    shown = [(name, row.layers) for name, row in (("before", before), ("after", after)) if row]
    if not shown:
        return None
    kinds = _kinds([layer for _, layers in shown for layer in layers])
    titles = [f"{name}: {milliseconds(sum(layer.time_s for layer in layers))} ms" for name, layers in shown]
    figure = make_subplots(rows=len(shown), cols=1, shared_xaxes=True, subplot_titles=titles, vertical_spacing=0.12)
    told: set[str] = set()
    for number, (_, layers) in enumerate(shown, start=1):
        for precision, colour in PRECISION_COLOURS.items():
            times = _times_by_kind(layers, kinds, precision)
            if any(times):
                figure.add_trace(_layer_bars(precision, colour, kinds, times, precision not in told), row=number, col=1)
                told.add(precision)
    rows = len(shown)
    figure.update_layout(LAYOUT, barmode="stack", bargap=0.25, height=130 + rows * (60 + 26 * len(kinds)))
    figure.update_layout(legend={"y": 1.06 if rows > 1 else 1.12}, margin={"t": 56})
    figure.update_annotations(font={"size": 12})
    figure.update_xaxes(AXIS, rangemode="tozero")
    figure.update_xaxes(title_text="ms an inference", row=rows, col=1)
    figure.update_yaxes(
        AXIS,
        tickvals=list(range(len(kinds))),
        ticktext=[wrapped(kind) for kind in kinds],
        range=[len(kinds) - 0.5, -0.5],
        showgrid=False,
    )
    return figure


def layer_rows(report: Report, target: str) -> tuple[Row | None, Row | None]:
    """The original in FP32 and what ships, each where its layers were timed."""
    before, after = report.reference(target), report.chosen(target)
    return (before if before and before.layers else None, after if after and after.layers else None)


def _engines(report: Report, target: str) -> list[tuple[Row, Latency]]:
    point = main_point(report)
    rows = [row for row in report.rows if row.target == target]
    return [(row, latency) for row in rows if point and (latency := latency_at(row, point))]


def _quantile_line(row: Row, latency: Latency, index: int) -> go.Scatter:
    shares = np.linspace(0.0, 1.0, len(latency.distribution_s))
    shares[-1] = 1 - 1 / max(latency.calls, 2 * len(shares))
    emphasised = row.role in ("reference", "chosen")
    return go.Scatter(
        x=(1 / (1 - shares)).astype(np.float32),
        y=np.asarray(latency.distribution_s, np.float32) * 1000,
        mode="lines",
        name=engine_label(row, " "),
        line={
            "color": _engine_colour(row, index),
            "width": 2.5 if emphasised else 1.3,
            "dash": "solid" if emphasised else DASHES[index % len(DASHES)],
        },
        customdata=100 * shares,
        hovertemplate="%{customdata:.4g} %: %{y:.4g} ms",
    )


def _engine_colour(row: Row, index: int) -> str:
    return TORCH_COLOUR if row.role in ("reference", "control") else COLOURS[index % len(COLOURS)]


def _name_rows(figure: go.Figure, labels: Sequence[str]) -> None:
    """The engines' names beside horizontal boxes or bars, the first on top."""
    figure.update_yaxes(
        AXIS,
        tickvals=list(range(len(labels))),
        ticktext=labels,
        tickfont={"size": 11},
        range=[len(labels) - 0.5, -0.5],
        showgrid=False,
    )


def _kinds(layers: Sequence[LayerTime]) -> list[str]:
    """Kinds of operators by their time, the longest first; beyond MOST_OPERATORS they are one, "others"."""
    times: dict[str, float] = {}
    for layer in layers:
        times[layer.operator] = times.get(layer.operator, 0.0) + layer.time_s
    ordered = sorted(times, key=lambda kind: -times[kind])
    return ordered if len(ordered) <= MOST_OPERATORS else [*ordered[: MOST_OPERATORS - 1], "others"]


def _times_by_kind(layers: Sequence[LayerTime], kinds: Sequence[str], precision: str) -> list[float]:
    """Milliseconds of each kind in one precision; what is not among `kinds` counts as the last."""
    places: Mapping[str, int] = {kind: place for place, kind in enumerate(kinds)}
    times = [0.0] * len(kinds)
    for layer in layers:
        if (layer.precision if layer.precision in PRECISION_COLOURS else "other") == precision:
            times[places.get(layer.operator, len(kinds) - 1)] += 1000 * layer.time_s
    return times


def _layer_bars(precision: str, colour: str, kinds: Sequence[str], times: Sequence[float], told: bool) -> go.Bar:
    return go.Bar(
        x=times,
        y=list(range(len(kinds))),
        orientation="h",
        name=precision,
        legendgroup=precision,
        showlegend=told,
        marker={"color": colour},
        customdata=[
            f"{plain(kind)}, {precision}: {significant(time)} ms" for kind, time in zip(kinds, times, strict=True)
        ],
        hovertemplate="%{customdata}<extra></extra>",
    )
