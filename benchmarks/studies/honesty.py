"""Does the protocol tell the truth? Coverage of A/A, resolution, planted differences, agreement with peers, overhead.

    python -m benchmarks.studies.honesty                  # everything, about 20 minutes; wants a machine with nothing else on it
    python -m benchmarks.studies.honesty coverage --folder DIR   # resamples recordings made before

Recording and resampling are two things. A recording holds the blocks of three engines, interleaved, in many fresh
processes: a reference, the same engine again, and the same engine made exactly 2 % slower by a wait. A repetition draws as
many processes as a real run takes, without replacement, and in the A/A case lets chance say which of the two equal
engines is called the reference, in each process anew: then the true ratio is 1 whatever was recorded.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.latency import CONTROL, Protocol, measure
from benchmarks.studies.load import load_of
from benchmarks.studies.models import conv_inputs, conv_model, engine_on
from benchmarks.studies.peers import agreement
from benchmarks.studies.planted import planted
from benchmarks.studies.record import Recording, record
from benchmarks.timings import Timings

REPETITIONS = 2000
RECORDED = {"quiet": 40, "load": 40}
"""Processes of each engine; each takes about 5 s quiet and 9 s beside the load."""
MINUTES = {"quiet": 4, "load": 7}
SLICE_S = 1.0
"""Measuring time of an engine in one process: what a run of 10 s an engine takes."""
LIMIT_S = 60.0


@dataclass(frozen=True)
class Coverage:
    """Of many repetitions: shares of A/A intervals that hold 1, of planted differences found, and the mean half-width.

    `pooled_covers` is that of one median over the rounds of all processes, with percentiles of a bootstrap on both levels.
    """

    processes: int
    covers: float
    claimed: float
    found: float
    half_width: float
    pooled_covers: float


def coverage(recording: Recording, processes: int, repetitions: int = REPETITIONS, seed: int = 0) -> Coverage:
    """Resample a recording as many times as asked; see the module's text."""
    generator = np.random.default_rng(seed)
    covers = found = pooled = 0
    widths = []
    for _ in range(repetitions):
        drawn = generator.choice(recording.processes, processes, replace=False)
        one, other, slower = (recording.timings(name, drawn) for name in ("reference", "again", "slower"))
        found += one.faster_than(slower).low > 1.0
        one, other = _swapped(one, other, generator)
        interval = one.faster_than(other)
        covers += interval.low <= 1.0 <= interval.high
        widths.append((interval.high - interval.low) / 2)
        pooled += _pooled_covers_one(one, other, generator)
    share = covers / repetitions
    return Coverage(processes, share, 1 - share, found / repetitions, float(np.mean(widths)), pooled / repetitions)


def _swapped(one: Timings, other: Timings, generator: np.random.Generator) -> tuple[Timings, Timings]:
    """Two equal engines that change their names by chance, in each process anew."""
    swap = generator.integers(2, size=len(one.blocks_s)).astype(bool)
    return (_picked(one, other, swap), _picked(other, one, swap))


def _picked(mine: Timings, theirs: Timings, swap: np.ndarray) -> Timings:
    both = list(zip(mine.blocks_s, mine.quiet, theirs.blocks_s, theirs.quiet, strict=True))
    chosen = [(c, d) if swapped else (a, b) for (a, b, c, d), swapped in zip(both, swap, strict=True)]
    return replace(mine, blocks_s=tuple(blocks for blocks, _ in chosen), quiet=tuple(quiet for _, quiet in chosen))


def _pooled_covers_one(one: Timings, other: Timings, generator: np.random.Generator, resamples: int = 200) -> bool:
    logs = [np.log(mine) - np.log(theirs) for mine, theirs in zip(one.blocks_s, other.blocks_s, strict=True)]
    rounds = min(map(len, logs))
    table = np.array([process[:rounds] for process in logs])
    processes = generator.integers(len(table), size=(resamples, len(table), 1))
    within = generator.integers(rounds, size=(resamples, len(table), rounds))
    low, high = np.quantile(np.median(table[processes, within].reshape(resamples, -1), axis=1), [0.025, 0.975])
    return bool(low <= 0.0 <= high)


def beside(kind: str) -> AbstractContextManager[None]:
    """Nothing, or the load of two threads."""
    return load_of(2) if kind == "load" else nullcontext()


def print_coverage(folder: Path) -> None:
    """Recordings that lie in `folder` are used as they are; the others are made first."""
    print("A/A and a planted +2 %, resampled:")
    for kind, processes in RECORDED.items():
        path = folder / f"{kind}.npz"
        if not path.exists():
            print(f"  recording {processes} processes of each engine, {kind}: {MINUTES[kind]} minutes", flush=True)
            with beside(kind):
                record(folder, processes, SLICE_S).save(path)
        for drawn in (5, 10):
            result = coverage(Recording.load(path), drawn)
            print(
                f"  {kind:5} {drawn:2} processes: covers 1.0 in {result.covers:.1%} (93-97 asked), +2 % found in {result.found:.1%} "
                f"(90 asked), 0 % claimed in {result.claimed:.1%} (5 allowed), half-width {result.half_width:.2%}; "
                f"a pooled median with bootstrap percentiles would cover {result.pooled_covers:.1%}",
                flush=True,
            )


def print_resolution(folder: Path) -> None:
    """A pair of 1 ms models through `measure` itself, stopped by its own rule."""
    engine = engine_on("onnxruntime_mobile", conv_model(folder / "conv.onnx"), folder / "resolution")
    print("resolution of a pair of 1 ms models:")
    for kind, asked in (("quiet", 0.01), ("load", 0.03)):
        for seed in range(3):
            protocol = Protocol(seconds=12.0, half_width=asked, seed=seed)
            start = time.perf_counter()
            with beside(kind):
                found = measure({"one": engine}, {1: conv_inputs()}, protocol, control="one")
            one, again = found["one"].timings[1], found[CONTROL].timings[1]
            ratio, spent = again.faster_than(one), time.perf_counter() - start
            print(
                f"  {kind:5} {1000 * one.median_s:.2f} ms: half-width {(ratio.high - ratio.low) / 2:.2%} ({asked:.0%} asked) "
                f"in {spent:.0f} s ({LIMIT_S:.0f} allowed), {len(one.blocks_s)} processes, "
                f"{one.contended} of {sum(map(len, one.blocks_s))} blocks contended",
                flush=True,
            )


def print_overhead(folder: Path) -> None:
    """What a call of an engine that does nothing seems to take."""
    engine = engine_on("onnxruntime_mobile", conv_model(folder / "conv.onnx"), folder / "overhead")
    null = measure({"null": planted(engine, "Null")}, {1: conv_inputs()}, Protocol(seconds=3.0))["null"].timings[1]
    print(
        f"overhead: {1e6 * null.median_s:.2f} µs a call, {null.median_s / 1e-3:.3%} of 1 ms (1 % allowed)", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.honesty", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("part", nargs="?", choices=["coverage", "resolution", "agreement", "overhead"])
    parser.add_argument(
        "--folder", type=Path, help="where recordings are kept and looked for; a temporary one otherwise"
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="honesty-") as scratch:
        folder = asked.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if asked.part in (None, "overhead"):
            print_overhead(folder)
        if asked.part in (None, "resolution"):
            print_resolution(folder)
        if asked.part in (None, "agreement"):
            print(agreement(folder), flush=True)
        if asked.part in (None, "coverage"):
            print_coverage(folder)


if __name__ == "__main__":
    main()
