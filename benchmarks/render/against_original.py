"""What moved from the original to what ships, in words: how much, and whether it is beyond noise."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.classification import worst_class
from benchmarks.measurements import Interval
from benchmarks.render.claims import claimed_ratio, instability
from benchmarks.render.tables import latency_at, main_point
from benchmarks.render.wording import MetricWording, p_value, share
from benchmarks.report import Report, Row, Score


def moved(report: Report, target: str) -> tuple[str, ...]:
    """One phrase a figure of what ships, paired with the original; empty where nothing was measured."""
    chosen = report.chosen(target)
    return (*_answers(report, chosen), *_speed(report, chosen)) if chosen else ()


def beyond_noise(interval: Interval, unchanged: float) -> str:
    """'within noise' where the 95 % interval holds the value that stands for no change."""
    return "within noise" if interval.low <= unchanged <= interval.high else "beyond noise"


def worst_class_words(score: Score) -> str | None:
    """'6: 97.00 → 90.90 %', the class with the largest loss; None where no class lost anything."""
    found = worst_class(score.classes)
    if found is None or found.after >= found.before:
        return None
    return f"{found.label}: {share(found.before)} → {share(found.after)} %"


def _answers(report: Report, chosen: Row) -> Iterable[str]:
    score, wording = chosen.evaluation, MetricWording.of(report)
    if score is None:
        return
    if score.difference:
        words = f"{wording.difference(score.difference)}{wording.difference_unit}"
        yield f"{report.metric} {words}, {beyond_noise(score.difference, 0.0)}"
    if score.changed is not None:
        exchange = score.mcnemar
        told = f" ({exchange.lost} lost, {exchange.gained} gained, p {p_value(exchange.p_value)})" if exchange else ""
        yield f"{share(score.changed)} % of the answers flip{told}"
    worst = worst_class_words(score)
    if worst:
        yield f"worst class {worst}"


def _speed(report: Report, chosen: Row) -> Iterable[str]:
    point = main_point(report)
    latency = latency_at(chosen, point) if point else None
    throughput = chosen.throughput
    compared = (
        ("latency", "faster than runtime FP32", latency.faster_than_fp32 if latency else None),
        ("throughput", "more than runtime FP32", throughput.more_than_fp32 if throughput else None),
    )
    for name, words, interval in compared:
        if interval and instability(report, chosen.target):
            yield f"{name}: {claimed_ratio(report, chosen.target, interval)}"
        elif interval:
            yield f"{name} {claimed_ratio(report, chosen.target, interval)} {words}, {beyond_noise(interval, 1.0)}"
