"""Figures of what the answers lost: the classes before and after, and the images whose prediction changed."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from benchmarks.measurements import Interval
from benchmarks.render.chart_style import AXIS, BAD, COLOURS, LAYOUT, TORCH_COLOUR, errors, plain, shortened, wrapped
from benchmarks.render.tables_detail import worst_classes
from benchmarks.render.wording import MetricWording, share
from benchmarks.report import ClassScore, Flip

MOST_CLASSES = 30
"""Classes drawn; where there are more, those with the largest drop."""
MOST_PIXELS = 64
"""Of an image's longer side on the page; report.json keeps all. With 24 of them a page stays below 6 MB."""


CHANGE = MetricWording("share", percent=True)


def class_chart(classes: Sequence[ClassScore]) -> go.Figure:
    """For each class the share predicted right before (open) and after (full), joined by a line; the worst on top."""
    shown = worst_classes(classes, MOST_CLASSES)
    rows = list(range(len(shown)))
    figure = go.Figure()
    figure.add_trace(_joining_lines(shown))
    before = {"symbol": "circle-open", "size": 10, "color": TORCH_COLOUR, "line": {"width": 2}}
    after = {"size": 9, "color": [BAD if found.after < found.before else COLOURS[2] for found in shown]}
    for name, values, marker, bars in (
        ("original", [found.before for found in shown], before, None),
        ("what ships", [found.after for found in shown], after, _difference_bars(shown)),
    ):
        figure.add_trace(
            go.Scatter(
                x=[100 * value for value in values],
                y=rows,
                mode="markers",
                name=name,
                marker=marker,
                error_x=bars,
                customdata=[_class_words(found) for found in shown],
                hovertemplate="%{customdata}<extra></extra>",
            )
        )
    figure.update_layout(LAYOUT, height=110 + 24 * len(shown))
    figure.update_xaxes(AXIS, title_text="right, %")
    figure.update_yaxes(
        AXIS,
        tickvals=rows,
        ticktext=[plain(shortened(found.label, 20)) for found in shown],
        tickfont={"size": 11},
        range=[len(shown) - 0.5, -0.5],
    )
    return figure


def flip_image(flip: Flip) -> go.Figure:
    """The image in colour or grey, as it was given to the model; large ones are thinned out to every n-th pixel."""
    pixels = np.frombuffer(base64.b64decode(flip.pixels), np.uint8).reshape(flip.height, flip.width, flip.channels)
    step = -(-max(flip.height, flip.width) // MOST_PIXELS)
    thinned = pixels[::step, ::step]
    colours = thinned[..., :3] if flip.channels >= 3 else np.repeat(thinned[..., :1], 3, axis=2)
    figure = go.Figure(go.Image(z=np.ascontiguousarray(colours), hoverinfo="skip"))
    figure.update_layout(LAYOUT, margin={"l": 0, "r": 0, "t": 0, "b": 0}, height=120)
    figure.update_xaxes(visible=False, fixedrange=True)
    figure.update_yaxes(visible=False, fixedrange=True)
    return figure


def _difference_bars(shown: Sequence[ClassScore]) -> dict[str, Any] | None:
    """The interval of after minus before, around after and within 0 to 100 %; None where a class has none."""
    intervals = [found.difference for found in shown if found.difference]
    if len(intervals) < len(shown):
        return None
    held = [
        Interval(found.after, max(0.0, found.before + interval.low), min(1.0, found.before + interval.high))
        for found, interval in zip(shown, intervals, strict=True)
    ]
    return {**errors(held, 100.0), "color": TORCH_COLOUR}


def _joining_lines(shown: Sequence[ClassScore]) -> go.Scatter:
    ends = [(value, row) for row, found in enumerate(shown) for value in (100 * found.before, 100 * found.after, None)]
    return go.Scatter(
        x=[value for value, _ in ends],
        y=[row for _, row in ends],
        mode="lines",
        line={"color": TORCH_COLOUR, "width": 2},
        hoverinfo="skip",
        showlegend=False,
    )


def _class_words(found: ClassScore) -> str:
    label = wrapped(found.label, 40)
    words = f"{label}, {found.samples} samples<br>{share(found.before)} % → {share(found.after)} %"
    return f"{words}<br>{CHANGE.difference(found.difference)} pp" if found.difference else words
