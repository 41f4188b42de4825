"""Accuracy against latency: every engine with both intervals, and the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from benchmarks.measurements import Interval, Latency
from benchmarks.render.chart_style import (
    AXIS,
    BAD,
    LAYOUT,
    TORCH_COLOUR,
    errors,
    is_number,
    median_interval,
    plain,
    shortened,
    spread_axis,
    target_colours,
    wrapped,
)
from benchmarks.render.tables import difference_of, latency_at, main_point, score_of
from benchmarks.render.wording import MetricWording, milliseconds, working_point
from benchmarks.report import Report, Row, allowed_drop

FAR_OFF = 8
"""Times the reach of what ships and of the budget: an engine that lost more would squash the others to a line."""
NOTHING = Interval(0.0, 0.0, 0.0)


def accuracy_latency_chart(report: Report) -> go.Figure | None:
    """Every engine that ran: metric difference to the original against latency, both 95 % intervals, the Pareto front."""
    wording, point = MetricWording.of(report), main_point(report)
    figure = go.Figure()
    front: list[tuple[float, float]] = []
    scored: list[tuple[Row, Interval]] = []
    places = _label_places(report)
    for target, colour in target_colours(report).items():
        drawn = [(row, latency_at(row, point)) for row in report.rows if row.target == target and point]
        shown = [(row, latency) for row, latency in drawn if latency and difference_of(row) and row.role != "control"]
        if shown:
            trace = _engine_points(target, colour, shown, wording, places.get(target, "top right"))
            figure.add_trace(trace)
            front += zip(trace.x, trace.y, strict=True)
            scored += [(row, difference_of(row) or NOTHING) for row, _ in shown]
    if point is None or not front:
        return None
    best = pareto_front(front, report.higher_is_better)
    if len(best) > 1:
        figure.add_trace(_front_line(best))
    figure.update_layout(LAYOUT, height=460)
    figure.update_xaxes(AXIS, title_text=f"ms ({plain(working_point(point))})")
    spread_axis(figure, [x for x, _ in front])
    figure.update_yaxes(
        AXIS,
        zeroline=True,
        zerolinecolor="rgba(128,128,128,0.6)",
        title_text=_difference_title(wording, report.higher_is_better),
    )
    drop = _allowed_drop(report)
    _leave_out_far_off(figure, scored, drop or 0.0, wording)
    if drop is not None:
        allowed = wording.scale * (-drop if report.higher_is_better else drop)
        figure.add_hline(allowed, line={"dash": "dot", "color": BAD, "width": 1})
        figure.add_annotation(
            x=1, xref="paper", xanchor="right", y=allowed, yanchor="bottom", text="the budget's limit", showarrow=False
        )
    return figure


def pareto_front(points: Sequence[tuple[float, float]], higher_is_better: bool) -> tuple[tuple[float, float], ...]:
    """The (latency, metric) points that no other point beats in one and equals or beats in the other, quickest first."""
    sign = 1.0 if higher_is_better else -1.0
    front: list[tuple[float, float]] = []
    for latency, metric in sorted(set(points), key=lambda point: (point[0], -sign * point[1])):
        if not front or sign * metric > sign * front[-1][1]:
            front.append((latency, metric))
    return tuple(front)


def _allowed_drop(report: Report) -> float | None:
    """In the metric's own unit, where the original was scored."""
    original = report.reference("torch")
    score = score_of(original) if original else None
    limits = {name: limit for name, limit in report.budget.items() if is_number(limit)}
    return allowed_drop(limits, score.value) if score else None


def _leave_out_far_off(
    figure: go.Figure, scored: Sequence[tuple[Row, Interval]], drop: float, wording: MetricWording
) -> None:
    """Begin with the engines near what ships and the budget; say how many lie outside. A double click shows all."""
    near = [interval for row, interval in scored if row.role in ("reference", "chosen")]
    reach = FAR_OFF * max([abs(drop), *(abs(end) for interval in near for end in (interval.low, interval.high))])
    outside = [interval.value for _, interval in scored if abs(interval.value) > reach]
    if not outside or reach == 0:
        return
    kept = [interval for _, interval in scored if abs(interval.value) <= reach]
    ends = [wording.scale * end for interval in kept for end in (interval.low, interval.high)]
    low, high = min([*ends, -wording.scale * abs(drop)]), max(ends)
    figure.update_yaxes(range=[low - 0.15 * (high - low), high + 0.15 * (high - low)])
    farthest = f"{wording.change(max(outside, key=abs))}{wording.difference_unit}"
    words = f"{len(outside)} more outside, as far as {farthest}<br>(a double click shows all)"
    figure.add_annotation(
        x=0,
        xref="paper",
        xanchor="left",
        y=0,
        yref="paper",
        yanchor="bottom",
        align="left",
        text=words,
        showarrow=False,
    )


def _label_places(report: Report) -> dict[str, str]:
    """Target -> where the name of what ships stands: above the upper half of the stars, below the others."""
    stars = [(target, difference_of(row)) for target in report.targets if (row := report.chosen(target))]
    ordered = sorted(((target, found.value) for target, found in stars if found), key=lambda star: -star[1])
    half = (len(ordered) + 1) // 2
    return {target: "top right" if rank < half else "bottom right" for rank, (target, _) in enumerate(ordered)}


def _front_line(front: Sequence[tuple[float, float]]) -> go.Scatter:
    """Steps: at a latency, the best metric that is to be had within it."""
    return go.Scatter(
        x=[x for x, _ in front],
        y=[y for _, y in front],
        mode="lines",
        name="Pareto front",
        line={"shape": "hv", "dash": "dot", "width": 1.5, "color": TORCH_COLOUR},
        hoverinfo="skip",
    )


def _engine_points(
    target: str, colour: str, shown: Sequence[tuple[Row, Latency]], wording: MetricWording, position: str
) -> go.Scatter:
    latencies = [median_interval(latency.blocks_s) for _, latency in shown]
    differences = [difference_of(row) or NOTHING for row, _ in shown]
    chosen = [row.role == "chosen" for row, _ in shown]
    return go.Scatter(
        x=[1000 * latency.median_s for _, latency in shown],
        y=[wording.scale * difference.value for difference in differences],
        error_x=errors(latencies, 1000.0),
        error_y=errors(differences, wording.scale),
        mode="markers+text",
        name=plain(target),
        text=[
            f"<b>{plain(shortened(row.scheme, 14))}</b>" if ships else ""
            for (row, _), ships in zip(shown, chosen, strict=True)
        ],
        textposition=position,
        marker={
            "color": colour,
            "size": [14 if ships else 9 for ships in chosen],
            "symbol": ["star" if ships else "circle" for ships in chosen],
            "opacity": 1,
        },
        customdata=[_hover(row, latency, wording) for row, latency in shown],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _hover(row: Row, latency: Latency, wording: MetricWording) -> str:
    score = score_of(row)
    interval = median_interval(latency.blocks_s)
    return "<br>".join(
        (
            plain(f"{row.target}: {row.stage} {row.scheme}"),
            f"{milliseconds(latency.median_s)} ms [{milliseconds(interval.low)}, {milliseconds(interval.high)}]",
            f"{wording.difference(score.difference)}{wording.difference_unit} on {score.split}" if score else "",
        )
    )


def _difference_title(wording: MetricWording, higher_is_better: bool) -> str:
    unit = wording.difference_unit.replace(" ", ", ")
    direction = "" if higher_is_better else " (lower is better)"
    return f"{wrapped(wording.name, 40)} difference to the original{unit}{direction}"
