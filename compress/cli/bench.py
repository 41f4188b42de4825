"""`compress bench`: what was measured of any model files, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from benchmarks.bench import Bench, BenchRow
from benchmarks.measurements import Tail
from benchmarks.render.claims import NO_CLAIM
from benchmarks.render.tables import Line, Table
from benchmarks.render.terminal import print_table
from benchmarks.render.wording import MISSING, byte_size, milliseconds, ratio, significant
from benchmarks.report import write_text_whole
from benchmarks.stability import crowded
from export.errors import InputError

PERCENTILES = ("p90", "p99", "p99.9")


def axis_sizes(words: Sequence[str]) -> dict[str, int]:
    """Axis sizes from 'axis=N' words.

    Raises:
        InputError: for a word of another form, or an axis that stands twice.
    """
    sizes: dict[str, int] = {}
    for word in words:
        axis, _, number = word.rpartition("=")
        if not axis or not number.isdecimal() or int(number) < 1:
            raise InputError(f"--size: found '{word}', allowed: AXIS=N with N from 1, such as length=128")
        if axis in sizes:
            raise InputError(f"--size: axis '{axis}' stands twice")
        sizes[axis] = int(number)
    return sizes


def print_bench(bench: Bench, console: Console) -> None:
    """The table, then whether the machine was quiet enough, then what is wrong with any model's answers."""
    print_table(bench_table(bench), console)
    console.print()
    console.print(Text(control_line(bench), style="yellow" if bench.unstable else ""))
    for row in bench.rows:
        for finding in row.findings:
            console.print(Text.assemble(("warning: ", "yellow"), f"{row.name}: {finding}"))


def write_bench(bench: Bench, path: Path) -> None:
    """All of it as JSON, whole or not at all."""
    write_text_whole(path, json.dumps(bench.to_json(), indent=1, allow_nan=False) + "\n")


def bench_table(bench: Bench) -> Table:
    """One line a file; the ratio is to the first."""
    throughput = bench.protocol.mode == "throughput"
    speed = ("samples\na second", "at once") if throughput else ("median\nms", *(f"{name}\nms" for name in PERCENTILES))
    headers = (
        "model",
        "runs on",
        "size",
        *speed,
        f"{'more' if throughput else 'faster'} than\n{bench.rows[0].name}",
        "contended\nblocks",
        "load\nms",
        "first run\nms",
        "peak\nmemory",
    )
    last = len(headers) - 1
    lines = tuple(Line(_cells(bench, row)) for row in bench.rows)
    return Table(
        _title(bench), headers, lines, 2, optional=(1, last - 1, last - 2, last - 3), notes=tuple(_notes(bench))
    )


def control_line(bench: Bench) -> str:
    """'A/A: 0.998 [0.992, 1.004]: stable', or that no speed is claimed."""
    found = bench.control
    told = f"A/A: {found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
    unstable = "unstable: no speed claim is made; close other programs and run again"
    return f"{told}: {unstable if bench.unstable else 'stable'}"


def _cells(bench: Bench, row: BenchRow) -> tuple[str, ...]:
    return (
        row.name,
        row.target,
        byte_size(row.size_bytes),
        *_speed(row),
        _faster(bench, row),
        f"{row.contended} of {row.blocks}",
        milliseconds(row.footprint.load_s),
        milliseconds(row.footprint.first_inference_s),
        byte_size(row.footprint.peak_bytes),
    )


def _speed(row: BenchRow) -> tuple[str, ...]:
    if row.throughput:
        return (significant(row.throughput.samples_per_s), str(row.throughput.requests))
    if row.latency:
        calls = row.latency.calls
        return (milliseconds(row.latency.median_s), *(_percentile(tail, calls) for tail in row.latency.tails))
    return (MISSING, *[MISSING] * len(PERCENTILES))


def _percentile(tail: Tail, calls: int) -> str:
    return f"needs {tail.needed - calls} more" if tail.value_s is None else milliseconds(tail.value_s)


def _faster(bench: Bench, row: BenchRow) -> str:
    if row.faster_than_reference is None:
        return "reference"
    return NO_CLAIM if bench.unstable else ratio(row.faster_than_reference)


def _title(bench: Bench) -> str:
    shapes = ", ".join(f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in bench.inputs.items())
    threads = f"{bench.protocol.threads} thread{'' if bench.protocol.threads == 1 else 's'}"
    return f"{bench.protocol.mode.capitalize()} on random inputs: {shapes}; {threads}"


def _notes(bench: Bench) -> Iterable[str]:
    if any(row.latency and any(tail.value_s is None for tail in row.latency.tails) for row in bench.rows):
        yield "Percentiles by MLPerf's early-stopping rule; more calls take more --seconds."
    if any(row.latency and row.latency.under_load for row in bench.rows):
        yield "Something else was running: too few blocks were undisturbed, so the contended ones count too."
    if neighbours := crowded(row.latency.elsewhere_cores for row in bench.rows if row.latency):
        yield f"{neighbours[0].upper()}{neighbours[1:]}."
