"""A target at a glance: what ships, its four figures, and whether they may be claimed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.render.claims import control_line, instability, needs
from benchmarks.render.tables import latency_at, main_point
from benchmarks.render.wording import MetricWording, byte_size, ratio, times
from benchmarks.report import Decision, Report, Row, Verdict

NO_BREAK = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Figure:
    """One large figure of a card and what it means; an unclaimed one is struck out."""

    value: str
    meaning: str
    claimed: bool = True


@dataclass(frozen=True)
class Card:
    """A target at a glance; `control` is its A/A line, `unstable` why its ratios are no claim."""

    target: str
    decision: Decision
    ships: str
    why: str
    figures: tuple[Figure, ...]
    findings: tuple[str, ...]
    needs: str | None
    control: str | None
    unstable: str | None


def card(report: Report, verdict: Verdict) -> Card:
    """The card of one target's verdict."""
    chosen = report.chosen(verdict.target)
    return Card(
        target=verdict.target,
        decision=verdict.decision,
        ships=f"{chosen.stage} {chosen.scheme}" if chosen else "",
        why=chosen.reason if chosen and chosen.reason not in verdict.findings else "",
        figures=tuple(_figures(report, chosen)) if chosen else (),
        findings=verdict.findings,
        needs=needs(verdict),
        control=control_line(report, verdict.target),
        unstable=instability(report, verdict.target),
    )


def _figures(report: Report, chosen: Row) -> Iterable[Figure]:
    wording, point, before = MetricWording.of(report), main_point(report), report.reference(chosen.target)
    claimed = instability(report, chosen.target) is None
    latency = latency_at(chosen, point) if point else None
    if latency and latency.faster_than_fp32:
        yield Figure(ratio(latency.faster_than_fp32), "faster than the original in FP32 on this runtime", claimed)
    if latency and latency.faster_than_torch:
        yield Figure(ratio(latency.faster_than_torch), "faster than the original in torch", claimed)
    if chosen.evaluation:
        now = f"{wording.value(chosen.evaluation.value)}{wording.unit.replace(' ', NO_BREAK)}"
        difference = chosen.evaluation.difference
        if difference:
            yield Figure(f"{wording.difference(difference)}{wording.difference_unit}", f"{report.metric}, now {now}")
        else:
            yield Figure(now, report.metric)
    if chosen.size_bytes:
        smaller = ""
        if before and before.size_bytes:
            smaller = f", {times(before.size_bytes / chosen.size_bytes)}x smaller than {byte_size(before.size_bytes)}"
        yield Figure(byte_size(chosen.size_bytes), f"on disk{smaller}")
