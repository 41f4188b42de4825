"""Latency of several engines, interleaved: blocks of calls in random order, every round holds each engine once."""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from benchmarks.report import Footprint, Interval
from benchmarks.statistics import ratio_interval
from benchmarks.worker import Worker
from export.progress import Track, silent
from targets import Engine

BLOCK_S = 0.08
"""A block long enough that the clock and the exchange with the worker are nothing, short enough to interleave finely."""
WARMUP_S = 0.3
MIN_ROUNDS = 8


@dataclass(frozen=True)
class Timings:
    """Raw block medians of one engine at one batch size, in seconds, one array of shape (rounds,) a process.

    Round r of process p happened beside round r of process p of every other engine of the same measurement.
    """

    batch_size: int
    threads: int
    blocks_s: tuple[np.ndarray, ...]

    @property
    def median_s(self) -> float:
        return float(np.median(np.concatenate(self.blocks_s)))

    @property
    def by_process_s(self) -> tuple[tuple[float, ...], ...]:
        """The block medians, one inner tuple a process."""
        return tuple(tuple(float(block) for block in process) for process in self.blocks_s)

    def faster_than(self, other: Timings) -> Interval:
        """How many times faster this engine is than `other`, with its 95 % interval."""
        return ratio_interval(other.blocks_s, self.blocks_s)


@dataclass(frozen=True)
class Measured:
    """One engine's timings by batch size, and its footprint in a fresh process."""

    timings: Mapping[int, Timings]
    footprint: Footprint


@dataclass(frozen=True)
class Protocol:
    """How to measure; `seconds` is each engine's measuring time at each batch size, over all its processes."""

    threads: int = 1
    seconds: float = 4.0
    processes: int = 2
    seed: int = 0


def measure(
    engines: Mapping[str, Engine],
    inputs: Mapping[int, Mapping[str, np.ndarray]],
    protocol: Protocol,
    track: Track = silent,
) -> dict[str, Measured]:
    """Time all engines against each other.

    Args:
        engines: by the name they have in the result.
        inputs: for each batch size the named arrays to run on, the same for every engine.

    Returns:
        For each engine its timings and footprint.
    """
    blocks: dict[tuple[str, int], list[np.ndarray]] = {(name, size): [] for name in engines for size in inputs}
    footprints: dict[str, Footprint] = {}
    for process in range(protocol.processes):
        with ExitStack() as stack:
            workers = {name: stack.enter_context(Worker(engine, protocol.threads)) for name, engine in engines.items()}
            for size, arrays in inputs.items():
                calls = {name: _warm_up(name, worker, arrays, protocol, footprints) for name, worker in workers.items()}
                rounds = _rounds(protocol, calls)
                label = f"timing {len(engines)} engines, batch {size}, process {process + 1}/{protocol.processes}"
                generator = random.Random(protocol.seed * 1000 + process)
                medians: dict[str, list[float]] = {name: [] for name in engines}
                for _ in track(range(rounds), label, rounds):
                    for name in generator.sample(list(workers), len(workers)):
                        medians[name].append(float(np.median(workers[name].block(calls[name][0]).call_s)))
                for name, values in medians.items():
                    blocks[name, size].append(np.array(values))
    return {
        name: Measured(
            {size: Timings(size, protocol.threads, tuple(blocks[name, size])) for size in inputs}, footprints[name]
        )
        for name in engines
    }


def _warm_up(
    name: str, worker: Worker, arrays: Mapping[str, np.ndarray], protocol: Protocol, footprints: dict[str, Footprint]
) -> tuple[int, float]:
    """Warm the engine up; the number of calls that fill a block, and the seconds of one call."""
    worker.prepare(arrays)
    first = worker.block(1).call_s[0]
    spent, last = first, first
    while spent < WARMUP_S:
        block = worker.block(max(1, int(BLOCK_S / 4 / last)))
        spent, last = spent + sum(block.call_s), float(np.median(block.call_s))
    if name not in footprints:
        loaded = worker.loaded
        footprints[name] = Footprint(loaded.load_s, first, worker.peak_bytes(), loaded.runtime_bytes)
    return max(1, round(min(BLOCK_S, protocol.seconds / protocol.processes / MIN_ROUNDS) / last)), last


def _rounds(protocol: Protocol, calls: Mapping[str, tuple[int, float]]) -> int:
    longest = max(count * each for count, each in calls.values())
    return max(MIN_ROUNDS, int(protocol.seconds / protocol.processes / longest))
