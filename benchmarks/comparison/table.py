"""A comparison as a table: under each target a line a run, and what moved against the first."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.comparison.compare import Comparison, Figure, Shipped
from benchmarks.comparison.moves import Move, percent, percent_ends
from benchmarks.render.tables import Line, Table
from benchmarks.render.wording import MISSING, MetricWording, byte_size, direction_notes, milliseconds, ratio

MOVING: tuple[Figure, ...] = ("size", "metric", "latency", "speedup")


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
        compared = target.runs[0].run == comparison.runs[0]  # else the first run has nothing to compare with
        for index, shipped in enumerate(target.runs):
            lines.append(Line(_figures(shipped, wording)))
            if compared and index > 0:
                lines += [Line(cells, "dim") for cells in _moves(shipped, wording) if any(cells[1:])]
    return Table("Run by run", headers, tuple(lines), text_columns=3, optional=(4, 2), notes=_notes(comparison))


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


def _moves(shipped: Shipped, wording: MetricWording) -> Iterable[tuple[str, ...]]:
    """Two lines: how far each figure moved, and under it the interval of that and whether it is real."""
    size, metric, latency, speedup = map(shipped.moves.get, MOVING)
    refused = "refused" if shipped.latency and latency is None else ""
    change = wording.change(metric.change) if metric else ""
    yield (
        "    change",
        "",
        "",
        percent(size),
        change,
        change,
        percent(latency) or refused,
        percent(speedup) or refused,
    )
    ends = metric.interval if metric else None
    within = f"[{wording.change(ends.low)}, {wording.change(ends.high)}]" if ends else ""
    words = f"{within} {_realness(metric)}", _realness(latency), f"{percent_ends(speedup)} {_realness(speedup)}"
    yield ("    95 %", "", "", "", "", *(each.strip() for each in words))


def _realness(move: Move | None) -> str:
    if move is None or move.real is None:
        return ""
    return "real" if move.real else "unsure"


def _notes(comparison: Comparison) -> tuple[str, ...]:
    moves = [shipped.moves.get("metric") for target in comparison.targets for shipped in target.runs]
    how = {
        "paired sample by sample"
        if move.paired
        else "where a run keeps no samples.npz, intervals are put together as independent"
        for move in moves
        if move
    }
    return (
        f"Change: against {comparison.runs[0]}, with its own 95 % interval. Real: that excludes zero; unsure: it does not.",
        "Latencies of two runs were not measured side by side; the ratio within each run is the safer figure.",
        *direction_notes(comparison.wording.name, comparison.higher_is_better),
        *(f"{comparison.wording.name}: {each}." for each in sorted(how)),
    )
