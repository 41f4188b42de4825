"""A report or a comparison as one HTML file that needs no network: plotly is inlined once, all text is escaped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from benchmarks.comparison.compare import Comparison, shipped_ratios
from benchmarks.comparison.devices import SideBySide, side_by_side_table
from benchmarks.comparison.table import comparison_table
from benchmarks.render.artifact import artifacts_that_ship
from benchmarks.render.cards import card
from benchmarks.render.charts import distillation_chart, ratio_chart, waterfall_chart
from benchmarks.render.charts_accuracy import MOST_CLASSES, class_chart, flip_image
from benchmarks.render.charts_latency import block_chart, distribution_chart, layer_chart, layer_rows, throughput_chart
from benchmarks.render.charts_trade_off import accuracy_latency_chart
from benchmarks.render.claims import unstable_lines, wrong_answers
from benchmarks.render.facts import fact_pairs, fact_tables
from benchmarks.render.given_back import given_back_table
from benchmarks.render.tables import Table, batch_table, engine_table
from benchmarks.render.tables_detail import (
    answer_table,
    footprint_table,
    slowest_layer_table,
    stage_table,
    tail_table,
    throughput_table,
)
from benchmarks.render.tables_writing import writing_table
from benchmarks.render.wording import duration
from benchmarks.report import Flip, Report, Stage

TEMPLATES = Path(__file__).parent / "templates"
PLOTLY_CONFIG = {"responsive": True, "displaylogo": False, "displayModeBar": False}
MOST_FLIPS = 24
"""Images on the page, shared by the targets."""


@dataclass(frozen=True)
class StageDetail:
    """What a step tells of itself, ready to draw."""

    name: str
    pairs: Sequence[tuple[str, str]]
    tables: Sequence[Table]
    chart: Markup | None
    parity: Sequence[tuple[str, str]]
    parity_tables: Sequence[Table]


@dataclass(frozen=True)
class LayerSection:
    """Where one target's time goes: a chart, and the slowest layers before and after."""

    target: str
    chart: Markup
    tables: Sequence[Table]


def report_html(report: Report) -> str:
    """The whole report: verdict first, then charts, tables, stages and how it was made."""
    accuracy = accuracy_latency_chart(report)
    return page_of(
        "report.html.j2",
        title=report.name,
        report=report,
        duration=duration(report.duration_s),
        cards=[card(report, verdict) for verdict in report.verdicts],
        unstable=unstable_lines(report),
        wrong=wrong_answers(report),
        accuracy=chart_markup(accuracy, "chart-accuracy") if accuracy else None,
        waterfalls=_target_charts(report, waterfall_chart, "chart-steps"),
        engines=engine_table(report),
        distributions=_target_charts(report, distribution_chart, "chart-distribution"),
        tails=tail_table(report),
        blocks=_target_charts(report, block_chart, "chart-blocks"),
        writing=writing_table(report),
        batches=batch_table(report),
        given_back=given_back_table(report),
        throughputs=_target_charts(report, throughput_chart, "chart-throughput"),
        throughput=throughput_table(report),
        layers=_layer_sections(report),
        answers=answer_table(report),
        classes=_class_charts(report),
        gallery=_gallery(report),
        flips=len(report.gallery),
        footprint=footprint_table(report),
        on_device=artifacts_that_ship(report),
        stages=stage_table(report),
        stage_details=[_stage_detail(stage, index) for index, stage in enumerate(report.stages)],
        machine=list(fact_pairs(report.machine)),
        recipe=yaml.safe_dump(dict(report.recipe), sort_keys=False, allow_unicode=True),
        artifacts=[(file, digest) for row in report.rows for file, digest in row.files.items()],
    )


def comparison_html(comparison: Comparison) -> str:
    """Several runs side by side: what may not be compared first, then the ratios, then every figure."""
    ratios = shipped_ratios(comparison)
    return page_of(
        "comparison.html.j2",
        title=" · ".join(comparison.runs),
        comparison=comparison,
        table=comparison_table(comparison),
        chart=chart_markup(ratio_chart(ratios), "chart-ratios") if ratios else None,
    )


def devices_html(found: SideBySide) -> str:
    """Desk and devices side by side, every machine marked as what it is."""
    return page_of("devices.html.j2", title=found.title, found=found, table=side_by_side_table(found))


def page_of(template: str, **values: Any) -> str:
    """One of the templates as a page that needs nothing else: styles and plotly are inlined."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    css = Markup((TEMPLATES / "page.css").read_text(encoding="utf-8"))
    return environment.get_template(template).render(css=css, plotlyjs=Markup(get_plotlyjs()), **values)


def chart_markup(figure: go.Figure, name: str, still: bool = False) -> Markup:
    """A figure as markup; a still one answers to no touch, so that a finger on it scrolls the page."""
    height = f"{figure.layout.height}px"
    config = {**PLOTLY_CONFIG, "staticPlot": still}
    return Markup(
        figure.to_html(full_html=False, include_plotlyjs=False, config=config, div_id=name, default_height=height)
    )


def _target_charts(
    report: Report, draw: Callable[[Report, str], go.Figure | None], name: str
) -> list[tuple[str, Markup]]:
    """The targets that have something to draw, each with its chart; torch comes last."""
    drawn = [(target, draw(report, target)) for target in (*report.targets, "torch")]
    return [(target, chart_markup(figure, f"{name}-{index}")) for index, (target, figure) in enumerate(drawn) if figure]


def _class_charts(report: Report) -> list[tuple[str, Markup, str]]:
    """Target, chart, and which classes it holds."""
    found = []
    for index, target in enumerate(report.targets):
        row = report.chosen(target)
        classes = row.evaluation.classes if row and row.evaluation else ()
        if classes:
            held = (
                f"the {MOST_CLASSES} of {len(classes)} classes with the largest drop"
                if len(classes) > MOST_CLASSES
                else "all classes"
            )
            found.append((target, chart_markup(class_chart(classes), f"chart-classes-{index}"), held))
    return found


def _layer_sections(report: Report) -> list[LayerSection]:
    sections = []
    for index, target in enumerate(report.targets):
        chart, (before, after) = layer_chart(report, target), layer_rows(report, target)
        named = ((before, "before, the original in FP32"), (after, "after, what ships"))
        if chart:
            tables = [slowest_layer_table(row, f"Slowest layers {words}") for row, words in named if row]
            sections.append(LayerSection(target, chart_markup(chart, f"chart-layers-{index}"), tables))
    return sections


def _gallery(report: Report) -> list[tuple[Flip, Markup]]:
    """As many flips of each target as fit, in the order of the report."""
    each = MOST_FLIPS // max(1, len({flip.target for flip in report.gallery}))
    seen: Counter[str] = Counter()
    kept: list[tuple[Flip, Markup]] = []
    for flip in report.gallery:
        seen[flip.target] += 1
        if seen[flip.target] <= each:
            kept.append((flip, chart_markup(flip_image(flip), f"image-{len(kept)}", still=True)))
    return kept


def _stage_detail(stage: Stage, index: int) -> StageDetail:
    epochs = stage.facts.get("epochs")
    chart = distillation_chart(epochs) if isinstance(epochs, (list, tuple)) and epochs else None
    return StageDetail(
        name=stage.name,
        pairs=list(fact_pairs(stage.facts)),
        tables=list(fact_tables(stage.facts)),
        chart=chart_markup(chart, f"chart-stage-{index}") if chart else None,
        parity=list(fact_pairs(stage.parity)),
        parity_tables=list(fact_tables(stage.parity)),
    )
