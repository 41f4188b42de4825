"""The table of accuracy control: which layers run in float again, and the price of each."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.render.tables import Line, Table, latency_at, main_point
from benchmarks.render.wording import MISSING, MetricWording, milliseconds, signed, significant
from benchmarks.report import GivenBack, Report, Row


def given_back_table(report: Report) -> Table | None:
    """A heading for each mixed scheme, then a line a layer; None where accuracy control was not needed."""
    rows = [row for row in report.rows if row.role == "tried" and row.given_back]
    if not rows:
        return None
    wording = MetricWording.of(report)
    lines: list[Line] = []
    for row in rows:
        lines.append(Line((f"{row.target} {row.scheme}",), "heading"))
        lines += [Line(_cells(layer, wording)) for layer in row.given_back]
    headers = (
        "layer",
        "operator",
        "alone in INT8:\nsignal to noise, dB",
        f"{report.metric}{wording.difference_unit.replace(' ', ', ')}",
        "in float:\nms more",
    )
    notes = (
        "Signal to noise of the model's output on calibration samples; the metric's change on validation samples, in ONNX Runtime.",
        "Milliseconds of the layer itself by the target's profiler, over the same layer in INT8.",
        *(note for row in rows for note in _together(report, row)),
    )
    return Table("Layers in float again", headers, tuple(lines), text_columns=2, notes=notes)


def _cells(layer: GivenBack, wording: MetricWording) -> tuple[str, ...]:
    name = f"{layer.module} ({layer.layer})" if layer.module else layer.layer
    price = MISSING if layer.price_s is None else signed(1000 * layer.price_s, 3)
    return (
        name,
        layer.operator,
        significant(layer.signal_to_noise_db),
        wording.change(layer.metric_change),
        price,
    )


def _together(report: Report, row: Row) -> Iterable[str]:
    """What all of them cost, from the two engines timed in the same rounds."""
    base = next(
        (
            other
            for other in report.rows
            if other.target == row.target
            and other.role == "tried"
            and not other.given_back
            and row.scheme.startswith(f"{other.scheme}-")
        ),
        None,
    )
    point = main_point(report)
    mine, plain = (latency_at(each, point) if each and point else None for each in (row, base))
    if base and mine and plain:
        more = signed(1000 * (mine.median_s - plain.median_s), 3)
        yield (
            f"{row.target}: {row.scheme} takes {milliseconds(mine.median_s)} ms, {base.scheme} "
            f"{milliseconds(plain.median_s)} ms: {more} ms together, timed in the same rounds."
        )
