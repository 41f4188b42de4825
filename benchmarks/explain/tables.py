"""An explanation as tables of text: where the time goes by kind of operator and by layer, and what stayed float."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from benchmarks.explain.figures import Explanation, Layer
from benchmarks.explain.layer_work import CONVERSIONS, work_of
from benchmarks.render.tables import Line, Table
from benchmarks.render.wording import MISSING, count, milliseconds, significant

LAYERS_SHOWN = 12
NAME_WIDTH = 44
KIND_WORDS = {"convolution": "convolutions", "matmul": "matrix products", "other": "other operators"}
CONVERTING = "conversions"


def explanation_tables(found: Explanation) -> tuple[Table, ...]:
    """In the order in which they are read."""
    tables = (kind_table(found), layer_table(found), island_table(found))
    return tuple(table for table in tables if table is not None)


def kind_table(found: Explanation) -> Table:
    """The whole call by kind of operator and precision, beside the FP32 engine."""
    mine: dict[tuple[str, str], list[float]] = defaultdict(list)
    for layer in found.layers:
        kind = _kind(layer.time.operator, layer.work.kind)
        mine[kind, "other" if kind == CONVERTING else layer.time.precision].append(layer.time.time_s)
    fp32: dict[str, float] = defaultdict(float)
    for each in found.fp32_layers:
        fp32[_kind(each.operator, work_of(each).kind)] += each.time_s
    lines, told = [], set[str]()
    for (kind, precision), taken in sorted(mine.items(), key=lambda item: -sum(item[1])):
        before = MISSING if kind in told or kind not in fp32 else milliseconds(fp32[kind])
        told.add(kind)
        name = kind if precision == "other" else f"{kind}, {precision}"
        lines.append(Line((name, str(len(taken)), *_time(sum(taken), found), before)))
    lines += [
        Line((f"{kind}, in FP32 only", "0", *_time(0.0, found), milliseconds(time_s)))
        for kind, time_s in fp32.items()
        if kind not in told
    ]
    between_s = found.call_s - sum(layer.time.time_s for layer in found.layers)
    fp32_between_s = (found.fp32_call_s or 0.0) - sum(each.time_s for each in found.fp32_layers)
    before = milliseconds(max(0.0, fp32_between_s)) if found.fp32_layers else MISSING
    lines.append(Line(("around and between them", "", *_time(max(0.0, between_s), found), before), "dim"))
    before = milliseconds(found.fp32_call_s)
    lines.append(Line(("one call", str(len(found.layers)), milliseconds(found.call_s), "100", before), "chosen"))
    headers = ("what", "operators", "ms", "%", "in FP32\nms")
    table = Table(f"{found.title}: where the time goes", headers, tuple(lines))
    return table if found.fp32_layers else _without(table, 4)


def layer_table(found: Explanation) -> Table:
    """The most costly layers; a share of the peak is that of this kind of product in this precision."""
    costly = sorted(found.layers, key=lambda layer: -layer.time.time_s)[:LAYERS_SHOWN]
    headers = ("layer", "operator", "bound by", "ms", "%", "in FP32\nms", "multiply-\nadds", "of peak\n%", "padded\n%")
    shown = sum(layer.share for layer in costly)
    notes = (
        f"The {len(costly)} most costly of {len(found.layers)} layers: {100 * shown:.0f} % of a call. Of peak: the share of the "
        "multiply-adds a second that a large product reaches here. Padded: multiply-adds on channels that are not there.",
        _roofline_note(found),
    )
    table = Table("The most costly layers", headers, tuple(map(_layer_line, costly)), 3, (8, 6), notes)
    return table if found.fp32_layers else _without(table, 5)


def island_table(found: Explanation) -> Table | None:
    """What stayed float in an INT8 engine, and why; None where nothing did."""
    if not found.islands:
        return None
    lines = tuple(
        Line((island.operator, island.why, str(len(island.names)), *_time(island.time_s, found)))
        for island in found.islands[:LAYERS_SHOWN]
    )
    return Table("What stayed float, and why", ("operator", "why", "how many", "ms", "%"), lines, text_columns=2)


def _without(table: Table, column: int) -> Table:
    """The table less one column of figures: there is nothing to compare with."""

    def cut(cells: tuple[str, ...]) -> tuple[str, ...]:
        return cells[:column] + cells[column + 1 :]

    lines = tuple(replace(line, cells=cut(line.cells)) for line in table.lines)
    optional = tuple(index - (index > column) for index in table.optional)
    return replace(table, headers=cut(table.headers), lines=lines, optional=optional)


def _layer_line(layer: Layer) -> Line:
    work = layer.work
    return Line(
        (
            _short(layer.time.name),
            f"{layer.time.operator} {layer.time.precision}",
            layer.bound,
            milliseconds(layer.time.time_s),
            f"{100 * layer.share:.1f}",
            milliseconds(layer.fp32_s),
            count(work.macs) if work.macs else MISSING,
            MISSING if layer.peak_share is None else f"{100 * layer.peak_share:.0f}",
            f"{100 * work.padding:.0f}" if work.macs else MISSING,
        )
    )


def _roofline_note(found: Explanation) -> str:
    roofline = found.roofline
    peaks = [
        f"{significant(per_s / 1e9)} G/s {precision.upper()} ({KIND_WORDS[kind]})"
        for kind, by_precision in roofline.peaks.items()
        for precision, per_s in by_precision.items()
    ]
    return (
        f"This machine with this runtime: {', '.join(peaks)}; memory {significant(roofline.memory_bytes_per_s / 1e9)} GB/s, "
        f"cache {significant(roofline.cache_bytes_per_s / 1e9)} GB/s."
    )


def _kind(operator: str, kind: str) -> str:
    return CONVERTING if operator in CONVERSIONS else KIND_WORDS[kind]


def _time(time_s: float, found: Explanation) -> tuple[str, str]:
    return milliseconds(time_s), f"{100 * time_s / found.call_s:.1f}"


def _short(name: str) -> str:
    return name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH - 1]}…"
