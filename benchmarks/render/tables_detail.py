"""The tables that only the HTML shows: footprint, stages, tails, throughput, what the answers lost, slowest layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.measurements import Latency
from benchmarks.render.against_original import worst_class_words
from benchmarks.render.claims import claimed_ratio
from benchmarks.render.tables import Line, Table, by_target, latency_at, main_point
from benchmarks.render.wording import (
    MISSING,
    byte_size,
    count,
    milliseconds,
    p_value,
    percent_change,
    share,
    significant,
    working_point,
)
from benchmarks.report import ClassScore, Report, Row, Score, Stage

SLOWEST = 15
"""Layers told by name."""


def footprint_table(report: Report) -> Table:
    """What it takes to build, to load and to hold each engine."""
    headers = (
        "engine",
        "build\ns",
        "load\nms",
        "first inference\nms",
        "peak memory",
        "of it the\nruntime",
        "operators by precision",
    )
    rows = [row for row in report.rows if row.role != "control"]
    return Table("Footprint", headers, by_target(report, rows, _footprint_cells))


def stage_table(report: Report) -> Table:
    """Parameters, MACs and bytes of the torch model after each step, and what the step changed."""
    lines = tuple(
        Line((stage.name, *_stage_cells(stage, before)))
        for before, stage in zip((None, *report.stages), report.stages, strict=False)
    )
    return Table("The model after each step", ("stage", "parameters", "MACs", "weights"), lines)


def tail_table(report: Report) -> Table | None:
    """Calls, contended blocks and high percentiles of every engine; None where no calls were counted."""
    point = main_point(report)
    found = {id(row): latency for row in report.rows if point and (latency := latency_at(row, point)) and latency.calls}
    if point is None or not found:
        return None
    percentiles = sorted({tail.percentile for latency in found.values() for tail in latency.tails})
    headers = (
        "engine",
        "calls",
        "contended\nblocks",
        "median\nms",
        *(f"p{100 * percentile:g}\nms" for percentile in percentiles),
        "slowest\nms",
    )
    rows = [row for row in report.rows if id(row) in found]
    lines = by_target(report, rows, lambda row: _tail_cells(found[id(row)], percentiles))
    notes = [
        f"At {working_point(point)}. A percentile is told only where the calls support it with 99 % confidence by "
        "MLPerf's early-stopping rule; it is then a bound that errs on the slow side. Nothing is clipped.",
        "Contended: something else on the machine disturbed the block; its round is set aside while enough others remain.",
    ]
    if any(latency.under_load for latency in found.values()):
        notes.append("Under load: too few rounds were quiet, so the contended ones count as well.")
    return Table("Tails", headers, lines, notes=tuple(notes))


def throughput_table(report: Report) -> Table | None:
    """Samples a second with several requests under way at once; None where it was not measured."""
    rows = [row for row in report.rows if row.throughput]
    if not rows:
        return None
    headers = ("engine", "samples/s", "concurrent\nrequests", "batch", "threads", "more than\nruntime FP32")
    return Table(
        "Throughput: concurrent requests", headers, by_target(report, rows, lambda row: _throughput_cells(report, row))
    )


def answer_table(report: Report) -> Table | None:
    """What ships against the original, answer by answer; None where no metric that classifies was paired."""
    torch = report.reference("torch")
    before = torch.evaluation.calibration_error if torch and torch.evaluation else None
    chosen = [row for row in map(report.chosen, report.targets) if row and row.evaluation]
    scored = [(row, row.evaluation) for row in chosen if row.evaluation]
    if not any(score.mcnemar or score.classes or score.calibration_error is not None for _, score in scored):
        return None
    headers = (
        "target",
        "worst class",
        "flips\n%",
        "right → wrong",
        "wrong → right",
        "McNemar\np",
        "calibration error\n%",
    )
    lines = tuple(Line((row.target, *_answer_cells(score, before))) for row, score in scored)
    notes = (
        "McNemar: the chance of so uneven an exchange, or a more uneven one, if both models were equally good (exact, two-sided).",
        "Calibration error: expected, 15 bins of equal width.",
    )
    return Table("What the answers lost", headers, lines, text_columns=2, notes=notes)


def slowest_layer_table(row: Row, title: str) -> Table:
    """The slowest layers of one engine, with their share of all layers' time."""
    whole = sum(layer.time_s for layer in row.layers)
    slowest = sorted(row.layers, key=lambda layer: -layer.time_s)[:SLOWEST]
    lines = tuple(
        Line(
            (
                layer.name,
                layer.operator,
                layer.precision,
                milliseconds(layer.time_s),
                f"{100 * layer.time_s / whole:.1f}" if whole else MISSING,
            )
        )
        for layer in slowest
    )
    return Table(title, ("layer", "operator", "precision", "ms", "share\n%"), lines, text_columns=3)


def worst_classes(classes: Sequence[ClassScore], most: int) -> tuple[ClassScore, ...]:
    """The classes with the largest drop, the largest first."""
    return tuple(sorted(classes, key=lambda found: found.after - found.before)[:most])


def _footprint_cells(row: Row) -> tuple[str, ...]:
    footprint = row.footprint
    operators = ", ".join(f"{number} {precision}" for precision, number in row.operators.items()) or MISSING
    return (
        MISSING if row.build_s is None else significant(row.build_s, 2),
        milliseconds(footprint.load_s if footprint else None),
        milliseconds(footprint.first_inference_s if footprint else None),
        byte_size(footprint.peak_bytes if footprint else None),
        byte_size(footprint.runtime_bytes if footprint else None),
        operators,
    )


def _stage_cells(stage: Stage, before: Stage | None) -> tuple[str, str, str]:
    return (
        _against(stage.parameters, before.parameters if before else None, count),
        _against(stage.macs, before.macs if before else None, count),
        _against(stage.size_bytes, before.size_bytes if before else None, byte_size),
    )


def _against(now: int, before: int | None, spell: Callable[[int], str]) -> str:
    return spell(now) + (f" ({percent_change(now, before)})" if before and before != now else "")


def _tail_cells(latency: Latency, percentiles: list[float]) -> tuple[str, ...]:
    tails = {tail.percentile: tail for tail in latency.tails}
    return (
        f"{latency.calls:,}",
        f"{latency.contended} of {len(latency.blocks_s)}" + (", under load" if latency.under_load else ""),
        milliseconds(latency.median_s),
        *(
            MISSING
            if (tail := tails.get(percentile)) is None
            else f"needs {tail.needed - latency.calls:,} more"
            if tail.value_s is None
            else milliseconds(tail.value_s)
            for percentile in percentiles
        ),
        milliseconds(latency.distribution_s[-1] if latency.distribution_s else None),
    )


def _throughput_cells(report: Report, row: Row) -> tuple[str, ...]:
    found = row.throughput
    if found is None:
        return ()
    return (
        significant(found.samples_per_s),
        str(found.requests),
        str(found.batch_size),
        str(found.threads),
        claimed_ratio(report, row.target, found.more_than_fp32),
    )


def _answer_cells(score: Score, calibration_before: float | None) -> tuple[str, ...]:
    found = score.mcnemar
    errors = [value for value in (calibration_before, score.calibration_error) if value is not None]
    return (
        worst_class_words(score) or MISSING,
        share(score.changed),
        str(found.lost) if found else MISSING,
        str(found.gained) if found else MISSING,
        p_value(found.p_value) if found else MISSING,
        " → ".join(share(value) for value in errors) or MISSING,
    )
