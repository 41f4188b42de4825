"""What this machine can do through a runtime: its measured peaks, memory bandwidth, and the cost of one more operator.

Source of the model: Williams, Waterman, Patterson 2009, "Roofline", doi:10.1145/1498765.1498785.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.explain.layer_work import work_of
from benchmarks.explain.roofline_models import CHAINS, Kind, chain, product
from benchmarks.worker import Worker
from export.errors import CompressError, EnvironmentFailure, UnsupportedError
from export.model import OnnxModel
from targets import FP32, Profile, Scheme, Target

KINDS: tuple[Kind, ...] = ("convolution", "matmul")
MEASURE_S, FEWEST_PASSES, RUNS = 0.25, 8, 60
IN_CACHE_BYTES, IN_MEMORY_BYTES = 256 * 1024, 64 * 1024 * 1024
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


@dataclass(frozen=True)
class Roofline:
    """Peaks in multiply-adds per second by kind of product and precision ("fp32", "int8"), on the run's threads.

    `cache_bytes` is the last-level cache; `dispatch_s` what one more operator that does nothing costs, `empty_call_s` what
    a call costs before its first operator.
    """

    peaks: Mapping[str, Mapping[str, float]]
    memory_bytes_per_s: float
    cache_bytes_per_s: float
    cache_bytes: int
    dispatch_s: float
    empty_call_s: float
    notes: tuple[str, ...] = field(default=())
    """What could not be measured, a sentence each."""

    def peak(self, kind: str, precision: str) -> float | None:
        """For a precision that was not measured that of FP32."""
        peaks = self.peaks.get(kind, {})
        return peaks.get(precision, peaks.get("fp32"))

    def int8_gain(self, kind: str) -> float | None:
        """How many times as fast as in FP32 a large product of this kind is in INT8; None where it was not measured."""
        peaks = self.peaks.get(kind, {})
        return peaks["int8"] / peaks["fp32"] if {"int8", "fp32"} <= set(peaks) else None


def measure_roofline(target: Target, threads: int) -> Roofline:
    """A few seconds of measuring, each figure in a fresh process pinned like those of a run."""
    peaks: dict[str, dict[str, float]] = {kind: {} for kind in KINDS}
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="compress-") as scratch:
        bench = _Bench(target, threads, Path(scratch))
        for kind in KINDS:
            for scheme in filter(None, (FP32, _int8(target))):
                try:
                    peaks[kind][scheme.precision] = bench.peak(kind, scheme)
                except CompressError as error:
                    notes.append(f"{target.name}: no peak of a {kind} in {scheme.precision.upper()}: {error}")
        short_s, long_s = (bench.chain_s(length) for length in CHAINS)
    cached, memory = (_copy_in_process(size, threads) for size in (IN_CACHE_BYTES, IN_MEMORY_BYTES))
    dispatch_s, empty_call_s = line(short_s, long_s, *CHAINS)
    return Roofline(peaks, memory, max(cached, memory), last_level_cache(), dispatch_s, empty_call_s, tuple(notes))


def line(short_s: float, long_s: float, short: int, long: int) -> tuple[float, float]:
    """Seconds of one more operator, and of a call with none, from two chains of so many operators.

    The first is at least a nanosecond, so that it may divide; the second at least nothing.
    """
    dispatch_s = max(1e-9, (long_s - short_s) / (long - short))
    return dispatch_s, max(0.0, short_s - short * dispatch_s)


def last_level_cache() -> int:
    """Bytes of the largest cache that the system tells of; 8 MB where it does not."""
    sizes = [path.read_text().strip() for path in _CACHES.glob("index*/size")]
    units = {"K": 1024, "M": 1024**2}
    return max((int(size[:-1]) * units[size[-1]] for size in sizes if size[-1:] in units), default=8_000_000)


@dataclass(frozen=True)
class _Bench:
    target: Target
    threads: int
    scratch: Path

    def peak(self, kind: Kind, scheme: Scheme) -> float:
        """Multiply-adds per second of the fastest of several large products in a row."""
        precision: Literal["fp32", "int8"] = "int8" if scheme.precision == "int8" else "fp32"
        profile = self._profile(f"{kind}-{precision}", product(kind, precision), scheme)
        timed = [layer for layer in profile.layers if layer.precision == precision and layer.time_s > 0]
        rates = [work_of(layer).macs / layer.time_s for layer in timed]
        if not any(rates):
            raise UnsupportedError(f"the runtime ran none in {precision.upper()}")
        return max(rates)

    def chain_s(self, length: int) -> float:
        return self._profile(f"chain-{length}", chain(length), FP32).call_s

    def _profile(self, name: str, proto: bytes, scheme: Scheme) -> Profile:
        folder = self.scratch / name
        folder.mkdir()
        (folder / "in.onnx").write_bytes(proto)
        model = OnnxModel.read(folder / "in.onnx")
        with Worker(self.target.compile(model, scheme, folder), self.threads) as worker:
            return worker.profile({spec.name: _values(spec.concrete({})) for spec in model.inputs}, RUNS)


def _values(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def _int8(target: Target) -> Scheme | None:
    """The target's static INT8; None if it has none."""
    return next((each for each in target.schemes() if each.precision == "int8" and each.mode == "static"), None)


def _copy_in_process(size_bytes: int, threads: int) -> float:
    command = [sys.executable, "-m", "benchmarks.explain.roofline", str(size_bytes), str(threads)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it printed nothing"]
        raise EnvironmentFailure(f"roofline: the bandwidth could not be measured: {last[0]}")
    return float(done.stdout)


def copy_bandwidth(size_bytes: int, threads: int, seconds: float = MEASURE_S) -> float:
    """Bytes per second read and written by a copy of `size_bytes` on each of `threads` threads, the best of the passes."""
    source = [np.ones(size_bytes // 8) for _ in range(threads)]
    into = [np.zeros(size_bytes // 8) for _ in range(threads)]
    passes, taken_s = max(1, IN_CACHE_BYTES * 64 // size_bytes), list[float]()
    end = time.perf_counter() + seconds
    with ThreadPoolExecutor(threads) as pool:
        while len(taken_s) < FEWEST_PASSES or time.perf_counter() < end:
            start = time.perf_counter()
            for done in [pool.submit(_copy, to, each, passes) for to, each in zip(into, source, strict=True)]:
                done.result()
            taken_s.append(time.perf_counter() - start)
    return 2 * size_bytes * threads * passes / min(taken_s)


def _copy(into: np.ndarray, source: np.ndarray, passes: int) -> None:
    for _ in range(passes):
        np.copyto(into, source)


if __name__ == "__main__":
    from benchmarks.serve import pin

    pin(int(sys.argv[2]))
    print(copy_bandwidth(int(sys.argv[1]), int(sys.argv[2])))
