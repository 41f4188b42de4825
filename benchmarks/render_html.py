"""A report or a comparison as one HTML file that needs no network: plotly is inlined once, all text is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from benchmarks.charts import accuracy_latency_chart, distillation_chart, latency_chart, ratio_chart, steps_chart
from benchmarks.compare import Comparison, comparison_table, shipped_ratios
from benchmarks.facts import fact_pairs, fact_tables
from benchmarks.report import Decision, Report, Row, Stage, Verdict
from benchmarks.tables import (
    Table,
    batch_table,
    engine_table,
    footprint_table,
    latency_at,
    main_point,
    stage_table,
)
from benchmarks.wording import MetricWording, byte_size, duration, ratio, times

TEMPLATES = Path(__file__).parent / "templates"
PLOTLY_CONFIG = {"responsive": True, "displaylogo": False, "displayModeBar": False}

NO_BREAK = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Figure:
    """One large figure of a card and what it means."""

    value: str
    meaning: str


@dataclass(frozen=True)
class Card:
    """A target at a glance."""

    target: str
    decision: Decision
    ships: str
    why: str
    figures: tuple[Figure, ...]
    findings: tuple[str, ...]


@dataclass(frozen=True)
class StageDetail:
    """What a step tells of itself, ready to draw."""

    name: str
    pairs: Sequence[tuple[str, str]]
    tables: Sequence[Table]
    chart: Markup | None
    parity: Sequence[tuple[str, str]]
    parity_tables: Sequence[Table]


def report_html(report: Report) -> str:
    """The whole report: verdict first, then charts, tables, stages and how it was made."""
    return _page(
        "report.html.j2",
        title=report.name,
        report=report,
        duration=duration(report.duration_s),
        cards=[_card(report, verdict) for verdict in report.verdicts],
        charts={
            "accuracy": _chart(accuracy_latency_chart(report), "chart-accuracy"),
            "steps": _chart(steps_chart(report), "chart-steps"),
            "latency": _chart(latency_chart(report), "chart-latency"),
        },
        engines=engine_table(report),
        batches=batch_table(report),
        footprint=footprint_table(report),
        stages=stage_table(report),
        stage_details=[_stage_detail(stage, index) for index, stage in enumerate(report.stages)],
        machine=list(fact_pairs(report.machine)),
        recipe=yaml.safe_dump(dict(report.recipe), sort_keys=False, allow_unicode=True),
        artifacts=[(file, digest) for row in report.rows for file, digest in row.files.items()],
    )


def comparison_html(comparison: Comparison) -> str:
    """Several runs side by side: what may not be compared first, then the ratios, then every figure."""
    ratios = shipped_ratios(comparison)
    return _page(
        "comparison.html.j2",
        title=" · ".join(comparison.runs),
        comparison=comparison,
        table=comparison_table(comparison),
        chart=_chart(ratio_chart(ratios), "chart-ratios") if ratios else None,
    )


def _page(template: str, **values: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    css = Markup((TEMPLATES / "page.css").read_text(encoding="utf-8"))
    return environment.get_template(template).render(css=css, plotlyjs=Markup(get_plotlyjs()), **values)


def _chart(figure: go.Figure, name: str) -> Markup:
    height = f"{figure.layout.height}px"
    return Markup(
        figure.to_html(
            full_html=False, include_plotlyjs=False, config=PLOTLY_CONFIG, div_id=name, default_height=height
        )
    )


def _card(report: Report, verdict: Verdict) -> Card:
    chosen = report.chosen(verdict.target)
    figures = tuple(_card_figures(report, chosen)) if chosen else ()
    ships = f"{chosen.stage} {chosen.scheme}" if chosen else ""
    why = chosen.reason if chosen else ""
    return Card(verdict.target, verdict.decision, ships, why, figures, verdict.findings)


def _card_figures(report: Report, chosen: Row) -> list[Figure]:
    wording, point, before = MetricWording.of(report), main_point(report), report.reference(chosen.target)
    latency = latency_at(chosen, point) if point else None
    figures = []
    if latency and latency.faster_than_fp32:
        figures.append(Figure(ratio(latency.faster_than_fp32), "faster than the original in FP32 on this runtime"))
    if latency and latency.faster_than_torch:
        figures.append(Figure(ratio(latency.faster_than_torch), "faster than the original in torch"))
    if chosen.evaluation:
        difference = f"{wording.difference(chosen.evaluation.difference)}{wording.difference_unit}"
        figures.append(
            Figure(
                difference,
                f"{report.metric}, now {wording.value(chosen.evaluation.value)}{wording.unit.replace(' ', NO_BREAK)}",
            )
        )
    if chosen.size_bytes:
        smaller = ""
        if before and before.size_bytes:
            smaller = f", {times(before.size_bytes / chosen.size_bytes)}x smaller than {byte_size(before.size_bytes)}"
        figures.append(Figure(byte_size(chosen.size_bytes), f"on disk{smaller}"))
    return figures


def _stage_detail(stage: Stage, index: int) -> StageDetail:
    epochs = stage.facts.get("epochs")
    chart = distillation_chart(epochs) if isinstance(epochs, (list, tuple)) and epochs else None
    return StageDetail(
        name=stage.name,
        pairs=list(fact_pairs(stage.facts)),
        tables=list(fact_tables(stage.facts)),
        chart=_chart(chart, f"chart-stage-{index}") if chart else None,
        parity=list(fact_pairs(stage.parity)),
        parity_tables=list(fact_tables(stage.parity)),
    )
