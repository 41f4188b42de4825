"""Any models side by side, without a recipe: the same protocol as a run's, on random inputs, each against the first."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.latency import CONTROL, Measured, Pool, Protocol, measure
from benchmarks.machine import library_versions, machine
from benchmarks.measurements import Footprint, Interval, Latency, Throughput
from benchmarks.model_files import engine_of
from benchmarks.report import Row
from benchmarks.stability import unstable
from benchmarks.timings import Timings
from export.errors import InputError
from export.model import TensorSpec
from export.progress import Track, silent
from targets import Engine

POOL = 8
"""Distinct inputs that the engines are timed on."""
HALF_WIDTH_LIMIT = 0.05
"""Above this half-width of the A/A interval no speed is claimed; as a report's `half_width_limit`."""
SCHEMA = "edge-compress bench 1"


@dataclass(frozen=True)
class BenchRow:
    """One model file. Either `latency` or `throughput` is there, whichever was asked for.

    `faster_than_reference` is None for the reference itself; `files` is name -> sha256.
    """

    name: str
    target: str
    size_bytes: int
    latency: Latency | None
    throughput: Throughput | None
    faster_than_reference: Interval | None
    contended: int
    blocks: int
    footprint: Footprint
    findings: tuple[str, ...]
    files: Mapping[str, str]


@dataclass(frozen=True)
class Bench:
    """All files of one call; the first row is the reference. `control` is the reference against itself (A/A)."""

    created: str
    rows: tuple[BenchRow, ...]
    control: Interval
    protocol: Protocol
    inputs: Mapping[str, tuple[int, ...]]
    """Shapes that all were timed on."""
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    half_width_limit: float = HALF_WIDTH_LIMIT
    schema: str = SCHEMA

    @property
    def unstable(self) -> str | None:
        """Why no speed may be claimed; None where it may."""
        loaded = any(row.latency.under_load for row in self.rows if row.latency)
        again = Latency(1, {}, self.protocol.threads, 0.0, (), faster_than_fp32=self.control, under_load=loaded)
        row = Row("", self.rows[0].name, "", "control", "measured", latency=(again,))
        return unstable(row, self.half_width_limit)

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is derived here is written out, so that a reader need not know the rule."""
        return asdict(self) | {"unstable": self.unstable}


@dataclass(frozen=True)
class LineUp:
    """Engines by the name they are told by, the reference first, and the random inputs that all of them take."""

    engines: Mapping[str, Engine]
    pool: Pool


def line_up(
    paths: Sequence[Path],
    on: str = "onnxruntime",
    batch: int | None = None,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
) -> LineUp:
    """Open model files and find inputs for them; nothing is measured yet.

    Args:
        on: the runtime of .onnx files.
        batch: the size of axis 0; by default 1, or what the model has it fixed at.
        sizes: of the other dynamic axes of the first model, by name.

    Raises:
        InputError: if a file cannot be read, an axis has no size, an input is of a type that no random values are
            made of, or a model cannot take the inputs of the first.
        UnsupportedError: if a runtime is not here.
    """
    engines = {name: engine_of(path, on) for name, path in zip(names_of(paths), paths, strict=True)}
    reference = next(iter(engines))
    shapes = input_shapes(engines[reference], batch, sizes or {})
    for name, engine in engines.items():
        if found := misfit(engine, engines[reference], shapes):
            raise InputError(f"{name}: cannot be timed on the inputs of {reference}: {found}; bench it by itself")
    return LineUp(engines, random_inputs(engines[reference].inputs, shapes, seed))


def bench(lineup: LineUp, protocol: Protocol, track: Track = silent) -> Bench:
    """Measure every engine against the first, and the first against itself."""
    engines, shapes = lineup.engines, {name: array.shape for name, array in lineup.pool[0].items()}
    reference = next(iter(engines))
    size = next((shape[0] for shape in shapes.values() if shape), 1)
    measured = measure(engines, {size: lineup.pool}, protocol, control=reference, track=track)
    first = measured[reference].timings[size]
    return Bench(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        rows=tuple(
            _row(name, engine, measured[name], size, None if name == reference else first, protocol)
            for name, engine in engines.items()
        ),
        control=measured[CONTROL].timings[size].faster_than(first),
        protocol=protocol,
        inputs=shapes,
        machine=machine(),
        versions=library_versions(),
    )


def names_of(paths: Sequence[Path]) -> list[str]:
    """The files' names; as they were given where two are alike.

    Raises:
        InputError: without a file, or if one stands twice.
    """
    if not paths:
        raise InputError("bench: no file given; give one model file or more")
    repeated = [path for path in paths if paths.count(path) > 1]
    if repeated:
        raise InputError(f"{repeated[0]}: stands twice; the first file is measured against itself anyway")
    names = [path.name for path in paths]
    return [str(path) if names.count(path.name) > 1 or path.name == CONTROL else path.name for path in paths]


def input_shapes(engine: Engine, batch: int | None, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """The shape of every input with its dynamic axes filled in.

    Raises:
        InputError: if an axis has no size, `sizes` names none of the model's, or its batch is fixed at another size.
    """
    name = engine.path.name
    axes: dict[str, str] = {}
    for spec in engine.inputs:
        axes = {axis: spec.name for axis in spec.shape if isinstance(axis, str)} | axes
    batches = {spec.shape[0] for spec in engine.inputs if spec.shape}
    for axis in sizes:
        if axis not in axes:
            raise InputError(f"--size {axis}: {name} has no such dynamic axis; its axes: {', '.join(axes) or 'none'}")
    fixed = sorted(extent for extent in batches if isinstance(extent, int))
    if batch is not None and fixed == sorted(batches, key=str) and fixed != [batch]:
        raise InputError(f"--batch {batch}: {name} has its batch fixed at {fixed[0]}; leave --batch out")
    known = {axis: batch or 1 for axis in batches if isinstance(axis, str)} | dict(sizes)
    for axis, tensor in axes.items():
        if axis not in known:
            raise InputError(f"{name}: axis '{axis}' of input '{tensor}' has no size of its own; add --size {axis}=N")
    return {spec.name: spec.concrete(known) for spec in engine.inputs}


def misfit(engine: Engine, reference: Engine, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Why an engine cannot take the reference's inputs in these shapes; None if it can."""
    mine, theirs = ({spec.name: spec for spec in each.inputs} for each in (engine, reference))
    if mine.keys() != theirs.keys():
        return f"its inputs are {', '.join(sorted(mine))}, not {', '.join(sorted(theirs))}"
    for name, spec in mine.items():
        if spec.dtype != theirs[name].dtype:
            return f"input '{name}' is {spec.dtype}, not {theirs[name].dtype}"
        fits = len(spec.shape) == len(shapes[name]) and all(
            isinstance(axis, str) or axis == extent for axis, extent in zip(spec.shape, shapes[name], strict=True)
        )
        if not fits:
            return f"input '{name}' has shape {_spelled(spec.shape)}, which {_spelled(shapes[name])} does not fit"
    return None


def random_inputs(specs: Iterable[TensorSpec], shapes: Mapping[str, tuple[int, ...]], seed: int) -> Pool:
    """POOL distinct inputs: normal floats; integers 0 and 1, which suit ids, types and masks alike; booleans.

    Each row of integers begins with a 1, so that a mask is never empty.

    Raises:
        InputError: for an input of any other type.
    """
    generator = np.random.default_rng(seed)
    return [{spec.name: _random(spec, shapes[spec.name], generator) for spec in specs} for _ in range(POOL)]


def _random(spec: TensorSpec, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    if spec.dtype in ("float16", "float32", "float64"):
        return np.asarray(generator.normal(size=shape), spec.dtype)
    if spec.dtype == "bool" or spec.dtype.removeprefix("u") in ("int8", "int16", "int32", "int64"):
        array = np.asarray(generator.integers(0, 2, size=shape), spec.dtype)
        if shape:
            array[..., 0] = 1
        return array
    raise InputError(f"input '{spec.name}' is {spec.dtype}; bench makes inputs of floats, integers and booleans")


def _row(
    name: str, engine: Engine, measured: Measured, size: int, first: Timings | None, protocol: Protocol
) -> BenchRow:
    timings = measured.timings[size]
    together = protocol.mode == "throughput"
    return BenchRow(
        name=name,
        target=engine.target,
        size_bytes=engine.size_bytes,
        latency=None if together else timings.latency({}),
        throughput=timings.throughput() if together else None,
        faster_than_reference=timings.faster_than(first) if first else None,
        contended=timings.contended,
        blocks=sum(len(process) for process in timings.blocks_s),
        footprint=measured.footprint,
        findings=measured.findings,
        files={file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in engine.files},
    )


def _spelled(shape: Iterable[int | str]) -> str:
    return f"({', '.join(map(str, shape))})"
