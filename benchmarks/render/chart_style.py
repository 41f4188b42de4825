"""What every figure shares: colours, layout, axes, error bars, and text that plotly shows as it is."""

from __future__ import annotations

import html
import math
import re
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import plotly.graph_objects as go

from benchmarks.measurements import Interval
from benchmarks.report import Report, Row

COLOURS = ("#3987d8", "#e08a00", "#12a37f", "#c46aa4", "#d55e00", "#8f7ae6")
"""One a target or an engine; told apart by colour-blind readers and on light and dark ground."""
TORCH_COLOUR = "#8a8f98"
GOOD, BAD = "#12a37f", "#d5463c"
PRECISION_COLOURS: Mapping[str, str] = {
    "int8": "#12a37f",
    "bf16": "#8f7ae6",
    "fp16": "#c46aa4",
    "fp32": "#e08a00",
    "other": "#8a8f98",
}
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
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
    "ticklabelstandoff": 4,
    "gridcolor": "rgba(128,128,128,0.25)",
    "zeroline": False,
    "title": {"font": {"size": 12}},
}
LABEL_WIDTH = 18
"""Characters of an axis label before it goes on in the next line, so that a phone has room for the bars."""
BREAK = "\N{ZERO WIDTH SPACE}"


def target_colours(report: Report, torch: bool = True) -> dict[str, str]:
    """Target -> colour, the same in every figure."""
    colours = {target: COLOURS[index % len(COLOURS)] for index, target in enumerate(report.targets)}
    return {"torch": TORCH_COLOUR, **colours} if torch else colours


def engine_label(row: Row, join: str = "<br>") -> str:
    """Stage and scheme, on two lines where they are long; what ships is in bold, the A/A row is called so."""
    again = " (A/A)" if row.role == "control" else ""
    whole = f"{row.stage} {row.scheme}{again}"
    parts = [whole] if len(whole) <= LABEL_WIDTH else [row.stage, f"{row.scheme}{again}"]
    label = join.join(plain(shortened(part)) for part in parts)
    return f"<b>{label}</b>" if row.role == "chosen" else label


def plain(text: str) -> str:
    """Text that plotly shows as it is: it would read tags as markup."""
    return html.escape(text, quote=False)


def shortened(text: str, width: int = LABEL_WIDTH) -> str:
    """Both ends of a long text, where names differ, with '…' between them."""
    if len(text) <= width:
        return text
    front = width // 2
    return f"{text[:front]}…{text[len(text) - (width - 1 - front) :]}"


def wrapped(text: str, width: int = LABEL_WIDTH) -> str:
    """Plain text in up to three short lines, also broken after '/', '.', '_' and '-'."""
    parts = re.sub(r"(?<=[/._])(?=\w{2})", f"{BREAK} ", shortened(text, 5 * width // 2))
    lines = (line.replace(f"{BREAK} ", "").rstrip(BREAK) for line in textwrap.wrap(parts, width))
    return "<br>".join(plain(line) for line in lines)


def errors(intervals: Sequence[Interval], scale: float) -> dict[str, Any]:
    """Error bars from the value to both ends."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [scale * (interval.high - interval.value) for interval in intervals],
        "arrayminus": [scale * (interval.value - interval.low) for interval in intervals],
        "thickness": 1,
        "width": 3,
    }


def spread_axis(figure: go.Figure, values: Sequence[float], axis: str = "x") -> None:
    """Make an axis logarithmic, with ticks at 1, 2 and 5, where its positive values lie far apart."""
    if values and 0 < 4 * min(values) < max(values):
        ticks = [factor * 10.0**power for power in range(-6, 7) for factor in (1, 2, 5)]
        settings = {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
        figure.update_layout({f"{axis}axis": settings})


def is_number(value: Any) -> TypeGuard[float]:
    """A JSON number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def median_interval(samples: Sequence[float]) -> Interval:
    """The median of independent samples and its distribution-free 95 % interval, from order statistics.

    With fewer than six samples no such interval reaches 95 %; the extremes then stand for it.

    Source: Campbell and Gardner 1988, BMJ 296:1454, ranks n/2 - 1.96 sqrt(n)/2 and 1 + n/2 + 1.96 sqrt(n)/2.
    """
    ordered, size = sorted(samples), len(samples)
    half = 1.96 * math.sqrt(size) / 2
    low, high = max(1, round(size / 2 - half)), min(size, round(1 + size / 2 + half))
    return Interval(statistics.median(ordered), ordered[low - 1], ordered[high - 1])
