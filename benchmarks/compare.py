"""Several runs side by side: what moved against the first, whether that is real, and what may not be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.report import Decision, Interval, Latency, Report, Score
from benchmarks.tables import Line, Table, latency_at, main_point
from benchmarks.wording import MISSING, MetricWording, byte_size, milliseconds, ratio, signed, working_point
from export.errors import InputError

Figure = Literal["size", "metric", "difference", "latency", "speedup"]

RUNTIME_LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "openvino": ("openvino",),
    "onnxruntime_mobile": ("onnxruntime",),
    "tensorrt": ("tensorrt", "tensorrt-rtx"),
}
"""Target -> the distributions whose version decides its latency; for a target not named here every version does."""


@dataclass(frozen=True)
class Move:
    """From the first run to another: relative for size, latency and speed-up, in the metric's unit for the rest.

    `real` says whether the two 95 % intervals do not overlap; None where there are no intervals.
    """

    change: float
    real: bool | None = None


@dataclass(frozen=True)
class Shipped:
    """What one run ships on one target; `moves` holds only what may be compared with the first run."""

    run: str
    decision: Decision
    scheme: str
    size_bytes: int | None
    score: Score | None
    latency: Latency | None
    moves: Mapping[Figure, Move] = field(default_factory=dict)


@dataclass(frozen=True)
class TargetComparison:
    """One target in all runs that have it, in the order of the runs."""

    target: str
    runs: tuple[Shipped, ...]


@dataclass(frozen=True)
class Comparison:
    """Runs by the label they were given; `refusals` are sentences on what is not compared and why."""

    runs: tuple[str, ...]
    wording: MetricWording
    targets: tuple[TargetComparison, ...]
    refusals: tuple[str, ...]


def compare(reports: Sequence[tuple[str, Report]]) -> Comparison:
    """Put labelled reports side by side, each against the first.

    Latencies are compared only between equal machines, equal versions of the target's runtime and equal batch
    sizes; metrics only where name, samples and evaluation data are the same.

    Raises:
        InputError: with fewer than two reports, or if a label stands twice.
    """
    labels = [label for label, _ in reports]
    if len(reports) < 2:
        raise InputError(f"compare: needs two or more runs, found {len(reports)}; give the folders of two runs")
    repeated = sorted({label for label in labels if labels.count(label) > 1})
    if repeated:
        raise InputError(f"compare: run {', '.join(repeated)} stands twice; give each run once")
    names = list(dict.fromkeys(target for _, report in reports for target in report.targets))
    targets = tuple(TargetComparison(target, tuple(_shipped_by_run(target, reports))) for target in names)
    refusals = dict.fromkeys(refusal for target in names for refusal in _refusals(target, reports))
    return Comparison(tuple(labels), MetricWording.of(reports[0][1]), targets, tuple(refusals))


def comparison_table(comparison: Comparison) -> Table:
    """Under each target a line a run, and under each but the first what moved."""
    wording = comparison.wording
    headers = (
        "run",
        "verdict",
        "ships",
        "size",
        f"{wording.name}\n{wording.unit.strip()}".rstrip(),
        f"difference\n{wording.difference_unit.strip()} [95 %]".replace("\n [", "\n["),
        "median\nms",
        "faster than\nruntime FP32",
    )
    lines: list[Line] = []
    for target in comparison.targets:
        lines.append(Line((target.target,), "heading"))
        for shipped in target.runs:
            lines.append(Line(_figures(shipped, wording)))
            lines += [Line(_moves(shipped, wording), "dim")] if shipped.moves else []
    return Table("Run by run", headers, tuple(lines), text_columns=3, optional=(4, 2), notes=_notes(comparison))


def shipped_ratios(comparison: Comparison) -> dict[str, list[tuple[str, Interval]]]:
    """For each target that was timed, the runs' speed-up over the same runtime's FP32."""
    found = {
        target.target: [
            (shipped.run, shipped.latency.faster_than_fp32)
            for shipped in target.runs
            if shipped.latency and shipped.latency.faster_than_fp32
        ]
        for target in comparison.targets
    }
    return {target: runs for target, runs in found.items() if runs}


def machine_differences(one: Report, other: Report) -> tuple[str, ...]:
    """What differs between the two machines, in words."""
    return tuple(_differing(one.machine, other.machine))


def runtime_differences(one: Report, other: Report, target: str) -> tuple[str, ...]:
    """Which libraries that decide a target's latency differ, in words."""
    known = RUNTIME_LIBRARIES.get(target, (*one.versions, *other.versions))
    versions = [{name: report.versions[name] for name in known if name in report.versions} for report in (one, other)]
    return tuple(_differing(*versions))


def _shipped_by_run(target: str, reports: Sequence[tuple[str, Report]]) -> Iterable[Shipped]:
    first: Shipped | None = None
    for index, (label, report) in enumerate(reports):
        if target not in report.targets:
            continue
        shipped = _shipped(label, report, target)
        if index == 0:
            first = shipped
        yield shipped if first is None or index == 0 else _with_moves(first, shipped, reports[0][1], report, target)


def _shipped(label: str, report: Report, target: str) -> Shipped:
    chosen, point = report.chosen(target), main_point(report)
    decision: Decision = next((verdict.decision for verdict in report.verdicts if verdict.target == target), "failed")
    if chosen is None:
        return Shipped(label, decision, "nothing", None, None, None)
    latency = latency_at(chosen, point) if point else None
    return Shipped(label, decision, chosen.scheme, chosen.size_bytes, chosen.evaluation, latency)


def _with_moves(first: Shipped, now: Shipped, before_report: Report, report: Report, target: str) -> Shipped:
    moves: dict[Figure, Move] = {}
    if first.size_bytes and now.size_bytes:
        moves["size"] = Move(now.size_bytes / first.size_bytes - 1)
    if first.score and now.score and not _metric_differences(before_report, report):
        moves["metric"] = Move(now.score.value - first.score.value)
        if first.score.difference and now.score.difference:
            moves["difference"] = _interval_move(first.score.difference, now.score.difference, relative=False)
    if first.latency and now.latency and not _latency_differences(before_report, report, target):
        moves["latency"] = Move(now.latency.median_s / first.latency.median_s - 1)
        if first.latency.faster_than_fp32 and now.latency.faster_than_fp32:
            moves["speedup"] = _interval_move(
                first.latency.faster_than_fp32, now.latency.faster_than_fp32, relative=True
            )
    return Shipped(now.run, now.decision, now.scheme, now.size_bytes, now.score, now.latency, moves)


def _interval_move(before: Interval, now: Interval, relative: bool) -> Move:
    change = now.value / before.value - 1 if relative else now.value - before.value
    return Move(change, real=now.low > before.high or now.high < before.low)


def _refusals(target: str, reports: Sequence[tuple[str, Report]]) -> Iterable[str]:
    first_label, first = reports[0]
    for label, report in reports[1:]:
        pair = f"{label} against {first_label}"
        if found := machine_differences(first, report):
            yield f"{pair}: latencies are not compared, the machines differ: {'; '.join(found)}"
        if found := runtime_differences(first, report, target):
            yield f"{pair}: latencies on {target} are not compared, the runtimes differ: {'; '.join(found)}"
        if found := _point_differences(first, report):
            yield f"{pair}: latencies are not compared, they were measured differently: {'; '.join(found)}"
        if found := _metric_differences(first, report):
            yield f"{pair}: the metric is not compared: {'; '.join(found)}"


def _latency_differences(one: Report, other: Report, target: str) -> tuple[str, ...]:
    return (*machine_differences(one, other), *runtime_differences(one, other, target), *_point_differences(one, other))


def _point_differences(one: Report, other: Report) -> tuple[str, ...]:
    points = [main_point(report) for report in (one, other)]
    words = [working_point(point) if point else "" for point in points]
    return () if words[0] == words[1] or not all(words) else (f"{words[0]} → {words[1]}",)


def _metric_differences(one: Report, other: Report) -> tuple[str, ...]:
    facts = [_metric_facts(report) for report in (one, other)]
    return tuple(_differing(*facts))


def _metric_facts(report: Report) -> dict[str, Any]:
    samples = {row.evaluation.samples for row in report.rows if row.evaluation}
    data = {name: digest for name, digest in report.hashes.items() if "evaluation" in name}
    return {"metric": report.metric, "evaluation samples": sorted(samples), **data}


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterable[str]:
    for key in dict.fromkeys((*one, *other)):
        before, now = one.get(key), other.get(key)
        if isinstance(before, (list, tuple)) and isinstance(now, (list, tuple)):
            gone, new = ([str(x) for x in xs if x not in ys] for xs, ys in ((before, now), (now, before)))
            changes = [f"{word} {', '.join(names)}" for word, names in (("without", gone), ("with", new)) if names]
            if changes:
                yield f"{key} {' and '.join(changes)}"
        elif before != now:
            yield f"{key} {'absent' if before is None else before} → {'absent' if now is None else now}"


def _figures(shipped: Shipped, wording: MetricWording) -> tuple[str, ...]:
    score, latency = shipped.score, shipped.latency
    return (
        f"  {shipped.run}",
        shipped.decision,
        shipped.scheme,
        byte_size(shipped.size_bytes),
        wording.value(score.value) if score else MISSING,
        wording.difference(score.difference if score else None),
        milliseconds(latency.median_s if latency else None),
        ratio(latency.faster_than_fp32 if latency else None),
    )


def _moves(shipped: Shipped, wording: MetricWording) -> tuple[str, ...]:
    moves = shipped.moves
    refused = "refused" if shipped.latency and "latency" not in moves else ""
    return (
        "    change",
        "",
        "",
        _relative(moves.get("size")),
        wording.change(moves["metric"].change) if "metric" in moves else "",
        wording.change(moves["difference"].change) + _realness(moves["difference"]) if "difference" in moves else "",
        _relative(moves.get("latency")) or refused,
        _relative(moves.get("speedup")) or refused,
    )


def _relative(move: Move | None) -> str:
    return f"{signed(100 * move.change, 1)} %{_realness(move)}" if move else ""


def _realness(move: Move) -> str:
    return "" if move.real is None else (" real" if move.real else " unsure")


def _notes(comparison: Comparison) -> tuple[str, ...]:
    return (
        f"Change: against {comparison.runs[0]}. Real: the two 95 % intervals do not overlap; unsure: they do.",
        "Latencies of two runs were not measured side by side; the ratio within each run is the safer figure.",
    )
