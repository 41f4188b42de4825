"""The tables of a report as text, made once; the terminal, Markdown and HTML only differ in how they draw them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.measurements import Interval, Latency
from benchmarks.render.claims import NO_CLAIM, claimed_ratio, unstable_lines
from benchmarks.render.wording import (
    MISSING,
    MetricWording,
    byte_size,
    direction_notes,
    milliseconds,
    ratio,
    share,
    working_point,
)
from benchmarks.report import Report, Row, Score, Status

Kind = Literal["plain", "heading", "chosen", "dim"]

STATUS_WORDS: Mapping[Status, str] = {"compiled": "not run", "failed": "failed", "unavailable": "not compiled"}
"""What stands in place of figures."""


@dataclass(frozen=True)
class Line:
    """A table's line. A heading has one cell and spans the table; "chosen" is what ships."""

    cells: tuple[str, ...]
    kind: Kind = "plain"


@dataclass(frozen=True)
class Table:
    """Headers may hold a line break. The first `text_columns` columns are words, the others figures.

    Where there is no room for all, the columns with the indices `optional` go, in that order.
    """

    title: str
    headers: tuple[str, ...]
    lines: tuple[Line, ...]
    text_columns: int = 1
    optional: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def summary_table(report: Report, intervals: bool = True) -> Table:
    """One line a target: what ships, from the original in FP32 on the same runtime to it."""
    wording = MetricWording.of(report)
    headers = (
        "target",
        "verdict",
        "ships",
        "size",
        f"{report.metric}{wording.unit.replace(' ', ', ')}",
        "latency, ms",
        "faster than\nruntime FP32",
    )
    lines = tuple(_summary_line(report, target, wording, intervals) for target in report.targets)
    return Table("What ships", headers, lines, text_columns=3, optional=(3, 1), notes=tuple(_setting_notes(report)))


def engine_table(report: Report, torch_interval: bool = True) -> Table:
    """Every engine, by target, in the order of the work."""
    wording = MetricWording.of(report)
    headers = (
        "engine",
        "size",
        f"{report.metric}\n{wording.unit.strip()}".rstrip(),
        f"difference\n{wording.difference_unit.strip()} [95 %]".replace("\n [", "\n["),
        "flips\n%",
        "median\nms",
        "faster than\nruntime FP32",
        "than\ntorch",
    )
    lines = by_target(report, report.rows, lambda row: _engine_cells(report, row, wording, torch_interval))
    notes = (*_split_notes(report), *_claim_notes(report), *not_run_reasons(report))
    return Table("Every engine", headers, lines, optional=(4, 7, 1), notes=notes)


def batch_table(report: Report) -> Table | None:
    """Latency at every batch size and length; None if there is only one."""
    points = _points(report)
    if len(points) < 2:
        return None
    headers = ("engine", *(f"{working_point(point)}\nms (faster than runtime FP32)" for point in points))
    rows = [row for row in report.rows if row.latency]
    lines = by_target(report, rows, lambda row: tuple(_latency_cell(report, row, point) for point in points))
    return Table("Latency by batch size", headers, lines)


def not_run_reasons(report: Report) -> tuple[str, ...]:
    """A sentence for every engine that has no figures of its own; equal reasons of a target are told once."""
    names: dict[tuple[str, str, str], list[str]] = {}
    for row in report.rows:
        if row.status != "measured":
            words = "compiled, not run here" if row.status == "compiled" else STATUS_WORDS[row.status]
            names.setdefault((row.target, words, row.reason), []).append(f"{row.stage} {row.scheme}")
    return tuple(
        f"{target}: {', '.join(engines)}: {words}: {reason}" for (target, words, reason), engines in names.items()
    )


def by_target(report: Report, rows: Sequence[Row], cells: Callable[[Row], tuple[str, ...]]) -> tuple[Line, ...]:
    """A heading for each target that has rows, then a line a row: the engine's name and its cells."""
    width = max((len(row.stage) for row in rows), default=0)
    lines: list[Line] = []
    for target in ("torch", *report.targets):
        of_target = [row for row in rows if row.target == target]
        lines += [Line((target,), "heading")] if of_target else []
        lines += [Line((engine_name(row, width), *cells(row)), _kind(row)) for row in of_target]
    return tuple(lines)


def engine_name(row: Row, width: int = 0) -> str:
    """Stage and scheme; '▸' marks what ships, 'A/A' the reference measured against itself."""
    again = " (A/A)" if row.role == "control" else ""
    return f"{'▸' if row.role == 'chosen' else ' '} {row.stage:{width}} {row.scheme}{again}"


def latency_at(row: Row, point: Latency) -> Latency | None:
    """The row's latency at another's batch size, sizes and threads."""
    same = (point.batch_size, dict(point.sizes), point.threads)
    return next((found for found in row.latency if (found.batch_size, dict(found.sizes), found.threads) == same), None)


def main_point(report: Report) -> Latency | None:
    """The first working point that was measured: the one that summaries speak of."""
    return next((latency for row in report.rows for latency in row.latency), None)


def score_of(row: Row) -> Score | None:
    """On the evaluation set where the row was measured there, else on the validation set."""
    return row.evaluation or row.validation


def difference_of(row: Row) -> Interval | None:
    """To the original in torch, which differs from itself by nothing; None where nothing was scored."""
    score = score_of(row)
    return (score.difference or Interval(0.0, 0.0, 0.0)) if score else None


def _points(report: Report) -> list[Latency]:
    points: dict[tuple[object, ...], Latency] = {}
    for latency in (latency for row in report.rows for latency in row.latency):
        points.setdefault((latency.batch_size, *sorted(latency.sizes.items()), latency.threads), latency)
    return list(points.values())


def _summary_line(report: Report, target: str, wording: MetricWording, intervals: bool) -> Line:
    before, chosen = report.reference(target), report.chosen(target)
    verdict = next((verdict.decision for verdict in report.verdicts if verdict.target == target), MISSING)
    if chosen is None:
        return Line((target, verdict, "nothing", *[MISSING] * 4))
    point = main_point(report)
    latency = latency_at(chosen, point) if point else None
    before_latency = latency_at(before, point) if point and before else None
    metric = [row.evaluation.value if row and row.evaluation else None for row in (before, chosen)]
    return Line(
        (
            target,
            verdict,
            chosen.scheme,
            _from_to(byte_size(before.size_bytes) if before else MISSING, byte_size(chosen.size_bytes)),
            _from_to(*(MISSING if value is None else wording.value(value) for value in metric)),
            _from_to(*(milliseconds(entry.median_s if entry else None) for entry in (before_latency, latency))),
            claimed_ratio(report, target, latency.faster_than_fp32 if latency else None, intervals),
        )
    )


def _kind(row: Row) -> Kind:
    if row.role == "chosen":
        return "chosen"
    return "plain" if row.status == "measured" else "dim"


def _engine_cells(report: Report, row: Row, wording: MetricWording, torch_interval: bool) -> tuple[str, ...]:
    if row.status != "measured":
        return (byte_size(row.size_bytes), STATUS_WORDS[row.status], *[""] * 5)
    score, point = score_of(row), main_point(report)
    latency = latency_at(row, point) if point else None
    return (
        byte_size(row.size_bytes),
        MISSING if score is None else wording.value(score.value) + (" v" if score.split == "validation" else "  "),
        wording.difference(score.difference if score else None),
        share(score.changed if score else None),
        milliseconds(latency.median_s if latency else None),
        _ratio_cell(report, row, latency.faster_than_fp32 if latency else None),
        _ratio_cell(report, row, latency.faster_than_torch if latency else None, torch_interval),
    )


def _ratio_cell(report: Report, row: Row, interval: Interval | None, with_interval: bool = True) -> str:
    """The A/A row's own ratio is no claim: it stays, since it is what shows the machine unstable."""
    if row.role == "control":
        return ratio(interval, with_interval)
    return claimed_ratio(report, row.target, interval, with_interval)


def _from_to(before: str, after: str) -> str:
    return MISSING if before == after == MISSING else f"{before} → {after}"


def _latency_cell(report: Report, row: Row, point: Latency) -> str:
    latency = latency_at(row, point)
    if latency is None:
        return MISSING
    faster = latency.faster_than_fp32
    return milliseconds(latency.median_s) + (f" ({_ratio_cell(report, row, faster)})" if faster else "")


def _setting_notes(report: Report) -> Iterable[str]:
    point = main_point(report)
    yield from direction_notes(report.metric, report.higher_is_better)
    if point:
        yield f"Latency: median at {working_point(point)}. Runtime FP32: the original on the same runtime."
    for chosen in filter(None, map(report.chosen, report.targets)):
        if chosen.status == "measured" and chosen.reason:
            yield f"{chosen.target}: {chosen.scheme} ships: {chosen.reason}"


def _split_notes(report: Report) -> Iterable[str]:
    yield from direction_notes(report.metric, report.higher_is_better)
    samples = {score.split: score.samples for row in report.rows for score in (row.validation, row.evaluation) if score}
    if "evaluation" in samples:
        yield f"On the evaluation set ({samples['evaluation']} samples); difference to the original in torch."
    if "validation" in samples:
        yield f"v: on the validation set ({samples['validation']} samples), where every choice is made."
    if any(score.changed is not None for row in report.rows for score in (row.validation, row.evaluation) if score):
        yield "Flips: share of samples whose predicted class is not the original's."


def _claim_notes(report: Report) -> Iterable[str]:
    if any(row.role == "control" for row in report.rows):
        yield "A/A: the reference measured a second time, against itself."
    if unstable_lines(report):
        yield f"{NO_CLAIM}: the target's A/A row calls the machine unstable; report.json keeps the ratios."
