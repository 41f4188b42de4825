"""Timings: the raw measurements of one engine, and what follows from them: median, ratios, the report's values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.measurements import Interval, Latency, Throughput
from benchmarks.statistics import ratio_interval
from benchmarks.tails import tails

MIN_ROUNDS = 4
"""In each process; half of them quiet are enough to leave the contended ones out."""


@dataclass(frozen=True)
class Timings:
    """Raw measurements of one engine at one batch size, one array of shape (rounds,) a process.

    Round r of process p happened beside round r of process p of every other engine of the same measurement.

    Args:
        blocks_s: each block's median call, or in throughput mode its wall time per call.
        quiet: whether the block was undisturbed.
        calls_s: every call of every block.
        requests: calls under way at once.
        elsewhere_cores: cores that worked for other programs meanwhile, on average.
        cpu_s: each block's CPU time a call, of the whole process.
    """

    batch_size: int
    threads: int
    blocks_s: tuple[np.ndarray, ...]
    quiet: tuple[np.ndarray, ...]
    calls_s: np.ndarray
    measured_s: float
    requests: int = 1
    elsewhere_cores: float = 0.0
    cpu_s: tuple[np.ndarray, ...] = ()

    @property
    def median_s(self) -> float:
        kept = [blocks[rounds] for blocks, rounds in zip(self.blocks_s, map(_kept, self.quiet))]
        return float(np.median(np.concatenate(kept)))

    @property
    def by_process_s(self) -> tuple[tuple[float, ...], ...]:
        """All block medians, one inner tuple a process."""
        return tuple(tuple(float(block) for block in process) for process in self.blocks_s)

    @property
    def contended(self) -> int:
        """Blocks that something else on the machine disturbed."""
        return sum(int((~quiet).sum()) for quiet in self.quiet)

    @property
    def under_load(self) -> bool:
        """Whether in most processes too few rounds were quiet, so that contended ones count too."""
        return 2 * sum(not _enough(quiet) for quiet in self.quiet) > len(self.quiet)

    def faster_than(self, other: Timings) -> Interval:
        """How many times faster this engine is than `other`, with its 95 % interval, over the rounds quiet for both."""
        rounds = [_kept(mine & theirs) for mine, theirs in zip(self.quiet, other.quiet)]
        return ratio_interval(_chosen(other.blocks_s, rounds), _chosen(self.blocks_s, rounds))

    def latency(
        self, sizes: Mapping[str, int], over_torch: Timings | None = None, over_fp32: Timings | None = None
    ) -> Latency:
        """These measurements as the report holds them, with the ratios to the original in torch and in FP32."""
        return Latency(
            batch_size=self.batch_size,
            sizes=sizes,
            threads=self.threads,
            median_s=self.median_s,
            block_medians_s=self.by_process_s,
            faster_than_torch=self.faster_than(over_torch) if over_torch else None,
            faster_than_fp32=self.faster_than(over_fp32) if over_fp32 else None,
            contended=self.contended,
            under_load=self.under_load,
            elsewhere_cores=self.elsewhere_cores,
            calls=len(self.calls_s),
            measured_s=self.measured_s,
            tails=tails(self.calls_s),
            distribution_s=tuple(float(value) for value in np.quantile(self.calls_s, np.linspace(0, 1, 101))),
        )

    def throughput(self, over_fp32: Timings | None = None) -> Throughput:
        """These measurements, taken in throughput mode, as the report holds them."""
        rate = tuple(tuple(self.batch_size / block for block in process) for process in self.by_process_s)
        return Throughput(
            batch_size=self.batch_size,
            requests=self.requests,
            threads=self.threads,
            samples_per_s=self.batch_size / self.median_s,
            block_samples_per_s=rate,
            more_than_fp32=self.faster_than(over_fp32) if over_fp32 else None,
        )


def _enough(quiet: np.ndarray) -> bool:
    return 2 * int(quiet.sum()) >= MIN_ROUNDS


def _kept(quiet: np.ndarray) -> np.ndarray:
    """The rounds of a process that count: the quiet ones where they are enough, else all."""
    return quiet if _enough(quiet) else np.ones_like(quiet)


def _chosen(blocks: Sequence[np.ndarray], rounds: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [process[kept] for process, kept in zip(blocks, rounds)]
