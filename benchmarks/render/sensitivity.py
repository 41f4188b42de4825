"""The ranking of `compress sensitivity`: tables in the terminal, and one HTML file with a chart of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from markupsafe import Markup

from benchmarks.render.chart_style import AXIS, COLOURS, LAYOUT, errors, plain, shortened
from benchmarks.render.html import chart_markup, page_of
from benchmarks.render.tables import Line, Table
from benchmarks.render.wording import MetricWording, duration, significant
from benchmarks.sensitivity import LayerCost, Section, Sensitivity

if TYPE_CHECKING:
    from rich.console import Console

WORST = 10
"""Layers of each section that the terminal shows."""
NAME = 36
"""Characters of a layer's name under the chart's bars."""


@dataclass(frozen=True)
class Drawn:
    """A section, ready for the page."""

    title: str
    chart: Markup
    table: Table
    doubt: str | None


def print_sensitivity(found: Sensitivity, console: Console) -> None:
    """The worst layers of each section, what is not certain, and what was left out."""
    from rich.text import Text

    from benchmarks.render.terminal import print_table

    for section in found.sections:
        print_table(cost_table(found, section, WORST), console)
        if section.doubt:
            console.print(Text.assemble(("uncertain: ", "yellow"), section.doubt))
    console.print()
    for note in found.notes:
        console.print(Text(note, style="dim"))
    console.print(Text(_measured_on(found), style="dim"))


def sensitivity_html(found: Sensitivity) -> str:
    """One page, with every layer."""
    drawn = [
        Drawn(
            section.title,
            chart_markup(cost_chart(found, section), f"chart-sensitivity-{index}"),
            cost_table(found, section),
            section.doubt,
        )
        for index, section in enumerate(found.sections)
    ]
    return page_of(
        "sensitivity.html.j2",
        title=f"{found.name}: sensitivity",
        found=found,
        drawn=drawn,
        measured=_measured_on(found),
    )


def cost_table(found: Sensitivity, section: Section, most: int | None = None) -> Table:
    """The worst layers first."""
    wording = MetricWording.of_values(found.metric, [found.metric_value])
    headers = (
        "layer",
        "what",
        "place",
        "signal to\nnoise, dB",
        f"{found.metric}\ndifference{wording.difference_unit.replace(' ', ', ')}",
    )
    lines = tuple(
        Line(
            (
                cost.layer,
                cost.change,
                _places(cost),
                _decibels(cost),
                wording.difference(cost.metric_change),
            )
        )
        for cost in section.costs[:most]
    )
    left = len(section.costs) - len(lines)
    notes = (f"{left} more layers cost less.",) if left else ()
    return Table(section.title, headers, lines, text_columns=2, optional=(1,), notes=notes)


def cost_chart(found: Sensitivity, section: Section) -> go.Figure:
    """A bar a layer in the order of the model's cost: signal to noise with its 95 % interval."""
    wording = MetricWording.of_values(found.metric, [found.metric_value])
    intervals = [cost.signal_to_noise_db for cost in section.costs]
    figure = go.Figure(
        go.Bar(
            x=[interval.value for interval in intervals],
            y=list(range(len(intervals))),
            error_x=errors(intervals, 1.0),
            orientation="h",
            marker={"color": COLOURS[0]},
            customdata=[
                [
                    plain(cost.layer),
                    plain(cost.change),
                    wording.difference(cost.metric_change) + wording.difference_unit,
                ]
                for cost in section.costs
            ],
            hovertemplate="%{customdata[0]}, %{customdata[1]}<br>%{x:.1f} dB<br>metric %{customdata[2]}<extra></extra>",
        )
    )
    figure.update_layout(LAYOUT, height=120 + 18 * len(intervals), showlegend=False)
    figure.update_xaxes(AXIS, title_text="signal to noise of the output, dB (short bars cost most)")
    figure.update_yaxes(
        AXIS,
        autorange="reversed",
        tickvals=list(range(len(intervals))),
        ticktext=[plain(shortened(cost.layer, NAME)) for cost in section.costs],
        showgrid=False,
    )
    return figure


def _places(cost: LayerCost) -> str:
    first, last = cost.rank
    return str(first) if first == last else f"{first} to {last}"


def _decibels(cost: LayerCost) -> str:
    found = cost.signal_to_noise_db
    return f"{significant(found.value)} [{significant(found.low)}, {significant(found.high)}]"


def _measured_on(found: Sensitivity) -> str:
    wording = MetricWording.of_values(found.metric, [found.metric_value])
    return (
        f"On {found.samples:,} validation samples ({found.metric} {wording.value(found.metric_value)}{wording.unit}), in "
        f"{duration(found.duration_s)}; 95 % intervals over the samples. Place: all that a layer's interval allows."
    )
