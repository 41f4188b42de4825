"""Recording for the honesty study: blocks of an engine, of itself again, and of itself made 2 % slower, interleaved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.latency import Protocol, measure
from benchmarks.studies.models import conv_inputs, conv_model, engine_on
from benchmarks.studies.planted import planted
from benchmarks.timings import Timings
from export.progress import Track, silent

TRUE_DIFFERENCE = 0.02
ENGINES = ("reference", "again", "slower")


@dataclass(frozen=True)
class Recording:
    """Block medians in seconds and which blocks were quiet, by engine, one array of shape (rounds,) a process."""

    blocks_s: Mapping[str, tuple[np.ndarray, ...]]
    quiet: Mapping[str, tuple[np.ndarray, ...]]

    @property
    def processes(self) -> int:
        return len(self.blocks_s["reference"])

    def timings(self, engine: str, processes: np.ndarray) -> Timings:
        """The engine's blocks in the processes drawn, as `measure` would have given them."""
        blocks, quiet = self.blocks_s[engine], self.quiet[engine]
        drawn = [blocks[index] for index in processes]
        kept = [quiet[index] for index in processes]
        return Timings(1, 1, tuple(drawn), tuple(kept), np.concatenate(drawn), float(sum(map(np.sum, drawn))))

    def save(self, path: Path) -> None:
        arrays = {}
        for name in ENGINES:
            for index, (blocks, quiet) in enumerate(zip(self.blocks_s[name], self.quiet[name], strict=True)):
                arrays[f"{name}/{index}/blocks_s"], arrays[f"{name}/{index}/quiet"] = blocks, quiet
        np.savez_compressed(path, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> Recording:
        with np.load(path) as arrays:
            processes = 1 + max(int(name.split("/")[1]) for name in arrays.files)
            blocks = {name: tuple(arrays[f"{name}/{index}/blocks_s"] for index in range(processes)) for name in ENGINES}
            quiet = {name: tuple(arrays[f"{name}/{index}/quiet"] for index in range(processes)) for name in ENGINES}
        return cls(blocks, quiet)


def record(folder: Path, processes: int, seconds: float, track: Track = silent) -> Recording:
    """Measure the three engines in `processes` fresh processes each.

    Args:
        folder: where the model is written.
        seconds: measuring time of each engine in one process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    engine = engine_on("onnxruntime_mobile", conv_model(folder / "conv.onnx"), folder / "onnxruntime")
    pool = {1: conv_inputs()}
    first = measure({"reference": engine}, pool, Protocol(seconds=1.0))["reference"].timings[1].median_s
    engines = {
        "reference": planted(engine, "Wrapped"),
        "again": planted(engine, "Wrapped"),
        "slower": planted(engine, "Padded", pad_s=TRUE_DIFFERENCE * first),
    }
    # An interval of no width is never reached: all processes are made.
    half = (processes + 1) // 2
    protocol = Protocol(seconds=seconds * 2 * half, processes=half, half_width=0.0)
    found = {name: measured.timings[1] for name, measured in measure(engines, pool, protocol, track=track).items()}
    return Recording(
        {name: timings.blocks_s for name, timings in found.items()},
        {name: timings.quiet for name, timings in found.items()},
    )
