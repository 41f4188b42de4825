"""Several runs side by side: what moved against the first, whether that is real, and what may not be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from benchmarks.comparison.comparable import (
    machine_differences,
    metric_differences,
    point_differences,
    runtime_differences,
    same_evaluation_data,
    unsteadiness,
)
from benchmarks.comparison.moves import Move, latency_move, metric_move, percent, percent_ends, ratio_move, size_move
from benchmarks.measurements import Interval, Latency
from benchmarks.render.tables import latency_at, main_point
from benchmarks.render.wording import MetricWording, byte_size, times
from benchmarks.report import Decision, Report, Score
from benchmarks.samples_file import key_of
from export.errors import InputError

Figure = Literal["size", "metric", "latency", "speedup"]
Samples = Mapping[str, Mapping[str, np.ndarray]]
"""Run -> what its samples.npz holds."""

SIZE_TOLERANCE = 0.01
"""Growth of the bytes from which on a run got worse; below, a compiler's version shows."""

_RANKS: Mapping[Decision, int] = {"accepted": 0, "inconclusive": 1, "not run here": 1, "rejected": 2, "failed": 3}


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
    """Runs by the label they were given, and sentences on them.

    Args:
        refusals: what is not compared, and why.
        worse: what really got worse than in the first run.
        across: what differs between runs whose latencies are compared because the user asked for it.
        higher_is_better: of the metric.
    """

    runs: tuple[str, ...]
    wording: MetricWording
    targets: tuple[TargetComparison, ...]
    refusals: tuple[str, ...]
    worse: tuple[str, ...] = ()
    across: tuple[str, ...] = ()
    higher_is_better: bool = True


def compare(
    reports: Sequence[tuple[str, Report]], samples: Samples | None = None, *, across: bool = False
) -> Comparison:
    """Put labelled reports side by side, each against the first.

    Latencies are compared only at equal batch sizes, where the A/A rows of both runs were steady, and between equal
    machines and equal versions of the target's runtime; metrics only where name, samples and evaluation data are the
    same.

    Args:
        samples: for each label the per-sample statistics that its run keeps; they make the metric's interval sharper.
        across: compare latencies between different machines and versions all the same.

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
    told = dict.fromkeys(found for target in names for found in _differences(target, reports, across))
    targets = tuple(
        TargetComparison(target, tuple(_shipped_by_run(target, reports, samples or {}, across))) for target in names
    )
    wording, better_up = MetricWording.of(reports[0][1]), reports[0][1].higher_is_better
    return Comparison(
        tuple(labels),
        wording,
        targets,
        refusals=tuple(found.sentence for found in told if not found.compared),
        worse=tuple(sentence for target in targets for sentence in _worse(target, labels, wording, better_up)),
        across=tuple(found.sentence for found in told if found.compared),
        higher_is_better=better_up,
    )


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


@dataclass(frozen=True)
class _Difference:
    """A sentence on what differs, and whether that is compared all the same."""

    sentence: str
    compared: bool = False


def _differences(target: str, reports: Sequence[tuple[str, Report]], across: bool) -> Iterable[_Difference]:
    first_label, first = reports[0]
    if target not in first.targets:
        return
    for label, report in reports[1:]:
        if target not in report.targets:
            continue
        pair, refused = f"{label} against {first_label}", "are compared, though" if across else "are not compared,"
        if found := machine_differences(first, report):
            yield _Difference(f"{pair}: latencies {refused} the machines differ: {'; '.join(found)}", across)
        if found := runtime_differences(first, report, target):
            yield _Difference(
                f"{pair}: latencies on {target} {refused} the runtimes differ: {'; '.join(found)}", across
            )
        if found := point_differences(first, report):
            yield _Difference(f"{pair}: latencies are not compared, they were measured differently: {'; '.join(found)}")
        if found := metric_differences(first, report):
            yield _Difference(f"{pair}: the metric is not compared: {'; '.join(found)}")
        for name, run in reports[0], (label, report):
            if why := unsteadiness(run, target):
                yield _Difference(f"{pair}: latencies on {target} are not compared: {name}: {why}")


def _shipped_by_run(
    target: str, reports: Sequence[tuple[str, Report]], samples: Samples, across: bool
) -> Iterable[Shipped]:
    first_label, first_report = reports[0]
    first = _shipped(first_label, first_report, target) if target in first_report.targets else None
    if first:
        yield first
    for label, report in reports[1:]:
        if target not in report.targets:
            continue
        now = _shipped(label, report, target)
        if first is None:
            yield now
            continue
        rows = [samples.get(run, {}).get(key_of(target)) for run in (first_label, label)]
        pair = (rows[0], rows[1]) if rows[0] is not None and rows[1] is not None else None
        yield replace(now, moves=_moved(first, now, first_report, report, target, pair, across))


def _shipped(label: str, report: Report, target: str) -> Shipped:
    chosen, point = report.chosen(target), main_point(report)
    decision: Decision = next((verdict.decision for verdict in report.verdicts if verdict.target == target), "failed")
    if chosen is None:
        return Shipped(label, decision, "nothing", None, None, None)
    latency = latency_at(chosen, point) if point else None
    return Shipped(label, decision, chosen.scheme, chosen.size_bytes, chosen.evaluation, latency)


def _moved(
    first: Shipped,
    now: Shipped,
    before_report: Report,
    report: Report,
    target: str,
    rows: tuple[np.ndarray, np.ndarray] | None,
    across: bool,
) -> dict[Figure, Move]:
    moves: dict[Figure, Move] = {}
    if first.size_bytes and now.size_bytes:
        moves["size"] = size_move(first.size_bytes, now.size_bytes)
    if first.score and now.score and not metric_differences(before_report, report):
        same = same_evaluation_data(before_report, report)
        moves["metric"] = metric_move(first.score, now.score, rows if same else None)
    if first.latency and now.latency and _may_compare_speed(before_report, report, target, across):
        moves["latency"] = latency_move(first.latency, now.latency)
        if first.latency.faster_than_fp32 and now.latency.faster_than_fp32:
            moves["speedup"] = ratio_move(first.latency.faster_than_fp32, now.latency.faster_than_fp32)
    return moves


def _may_compare_speed(one: Report, other: Report, target: str, across: bool) -> bool:
    if point_differences(one, other) or unsteadiness(one, target) or unsteadiness(other, target):
        return False
    return across or not (machine_differences(one, other) or runtime_differences(one, other, target))


def _worse(target: TargetComparison, labels: Sequence[str], wording: MetricWording, better_up: bool) -> Iterable[str]:
    """What really got worse; a plain latency is no ground for it, for it was not measured beside the other."""
    first = target.runs[0]
    if first.run != labels[0]:
        return
    present = {shipped.run: shipped for shipped in target.runs}
    for label in labels[1:]:
        place = f"{label} against {labels[0]}: {target.target}"
        now = present.get(label)
        if now is None:
            if first.decision == "accepted":
                yield f"{place}: verdict accepted → not in the run"
            continue
        if _RANKS[now.decision] > _RANKS[first.decision]:
            yield f"{place}: verdict {first.decision} → {now.decision}"
        yield from (f"{place}: {text}" for text in _worse_figures(first, now, wording, better_up))


def _worse_figures(first: Shipped, now: Shipped, wording: MetricWording, better_up: bool) -> Iterable[str]:
    metric, speedup, size = (now.moves.get(figure) for figure in ("metric", "speedup", "size"))
    if metric and metric.interval and metric.real and (metric.change < 0) == better_up:
        assert first.score and now.score
        change = f"{wording.difference(metric.interval)}{wording.difference_unit}"
        values = f"{wording.value(first.score.value)} → {wording.value(now.score.value)}{wording.unit}"
        yield f"{wording.name} {values} ({change}{_discordant(metric)})"
    if speedup and speedup.real and speedup.change < 0:
        assert first.latency and first.latency.faster_than_fp32 and now.latency and now.latency.faster_than_fp32
        before, after = first.latency.faster_than_fp32.value, now.latency.faster_than_fp32.value
        yield f"speed-up over the runtime's FP32 {times(before)}x → {times(after)}x ({percent(speedup)} {percent_ends(speedup)})"
    if size and size.change > SIZE_TOLERANCE:
        yield f"size {byte_size(first.size_bytes)} → {byte_size(now.size_bytes)} ({percent(size)})"


def _discordant(move: Move) -> str:
    test = move.mcnemar
    return f"; {test.lost:,} samples lost, {test.gained:,} gained, McNemar p {test.p_value:.2g}" if test else ""
