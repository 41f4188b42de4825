"""How fast a model writes: the first token, each further one, tokens a second, from whole answers that were timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.measurements import Latency
from benchmarks.render.claims import claimed_ratio
from benchmarks.render.tables import Line, Table, by_target
from benchmarks.render.wording import MISSING, milliseconds, significant
from benchmarks.report import Report, Row

TOKENS = "tokens"
"""The size of a working point that says how many tokens were written."""


def writing_table(report: Report) -> Table | None:
    """One line for each prompt length of the original and of what ships, on every target; None where nothing writes."""
    rows = [row for row in report.rows if row.role in ("reference", "chosen") and _answers(row)]
    if not rows:
        return None
    headers = (
        "engine",
        "prompt",
        "first token\nms",
        "each further\nms",
        "tokens/s",
        f"{_answers(rows[0])[0].sizes[TOKENS]} tokens\nms",
        "first token\nfaster",
        "answer\nfaster",
    )
    lines: list[Line] = []
    for target in ("torch", *report.targets):
        of_target = [row for row in rows if row.target == target]
        lines += [Line((target,), "heading")] if of_target else []
        for row in of_target:
            [named] = [line for line in by_target(report, [row], lambda _: ()) if line.kind != "heading"]
            lines += [Line((named.cells[0], *cells), named.kind) for cells in _cells(report, row)]
    notes = (
        "Whole answers of a fixed number of tokens, whatever the model writes, so that every engine does the same work; tokens/s is "
        "that number over the whole answer's time, its prompt's included. Each further token: the rest of the answer after "
        "the first token, evenly. Faster: than the original in FP32 on the same runtime.",
    )
    return Table("Writing", headers, tuple(lines), optional=(3, 6), notes=notes)


def _cells(report: Report, row: Row) -> list[tuple[str, ...]]:
    firsts = {_point(latency): latency for latency in row.latency if latency.sizes.get(TOKENS) == 1}
    return [_line(report, row, answer, firsts.get(_point(answer))) for answer in _answers(row)]


def _line(report: Report, row: Row, answer: Latency, first: Latency | None) -> tuple[str, ...]:
    tokens, batch = answer.sizes[TOKENS], answer.batch_size
    each = None if first is None else (answer.median_s - first.median_s) / (tokens - 1)
    return (
        _prompt(answer.sizes, batch),
        milliseconds(first.median_s if first else None),
        milliseconds(each),
        significant(batch * tokens / answer.median_s),
        milliseconds(answer.median_s),
        MISSING if first is None else claimed_ratio(report, row.target, first.faster_than_fp32),
        claimed_ratio(report, row.target, answer.faster_than_fp32),
    )


def _answers(row: Row) -> Sequence[Latency]:
    return [latency for latency in row.latency if latency.sizes.get(TOKENS, 1) > 1]


def _point(latency: Latency) -> tuple[object, ...]:
    others = {axis: size for axis, size in latency.sizes.items() if axis != TOKENS}
    return (latency.batch_size, *sorted(others.items()))


def _prompt(sizes: Mapping[str, int], batch: int) -> str:
    words = [f"{axis} {size}" for axis, size in sizes.items() if axis != TOKENS]
    return ", ".join(words if words and batch == 1 else [f"batch {batch}", *words])
