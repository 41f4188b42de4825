"""What was measured of one engine, as values: an estimate and its interval, latency, throughput, footprint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Tail:
    """One high percentile of the seconds per call, given only where the sample supports it.

    Args:
        percentile: 0.9, 0.99 or 0.999.
        needed: the fewest calls that support it by MLPerf's early-stopping rule.
        value_s: the rule's estimate; None where fewer calls were made.
    """

    percentile: float
    needed: int
    value_s: float | None


@dataclass(frozen=True)
class Latency:
    """Seconds per call of one engine at one batch size, from interleaved blocks.

    Ratios are other over this: 2.0 means this engine takes half the other's time.
    """

    batch_size: int
    sizes: Mapping[str, int]
    threads: int
    median_s: float
    block_medians_s: tuple[tuple[float, ...], ...]
    """One inner tuple a process; all blocks, the contended ones too."""
    faster_than_torch: Interval | None = None
    faster_than_fp32: Interval | None = None
    contended: int = 0
    """Blocks that something else on the machine disturbed: their rounds are set aside while enough others remain."""
    under_load: bool = False
    """Too few rounds were quiet, so the contended ones count as well."""
    elsewhere_cores: float = 0.0
    """Cores that worked for other programs meanwhile, on average: they share caches, memory and clock rates."""
    calls: int = 0
    measured_s: float = 0.0
    """Wall time of all blocks together."""
    tails: tuple[Tail, ...] = ()
    distribution_s: tuple[float, ...] = ()
    """101 evenly spaced quantiles of all calls, smallest to largest; nothing is clipped."""

    @property
    def blocks_s(self) -> tuple[float, ...]:
        """The block medians of all processes, in order."""
        return tuple(block for process in self.block_medians_s for block in process)


@dataclass(frozen=True)
class Throughput:
    """Samples a second with several requests under way at once, in the runtime's own throughput mode.

    Measured as such, in interleaved blocks; not batch size over latency.
    """

    batch_size: int
    requests: int
    """Requests under way at once."""
    threads: int
    samples_per_s: float
    block_samples_per_s: tuple[tuple[float, ...], ...]
    """One inner tuple a process."""
    more_than_fp32: Interval | None = None
    """This over the original in FP32 on the same runtime, in the same mode."""


@dataclass(frozen=True)
class Footprint:
    """Of a fresh process, median over the processes: seconds to load and of the first inference, peak resident bytes."""

    load_s: float
    first_inference_s: float
    peak_bytes: int
    runtime_bytes: int
    """Resident bytes of the same process after importing its runtime, before loading the model."""
