"""Was the machine quiet enough? The reference measured against itself must come out as 1."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.report import Row

FEWEST_PROCESSES = 5
"""Of each engine. The spread from process to process is not known from fewer."""
CROWDED_CORES = 0.25
"""Cores that other programs may keep busy before a report says so. An idle machine shows under 0.05."""


def unstable(control: Row, limit: float) -> str | None:
    """Why no speed may be claimed beside this A/A row; None where it may.

    Args:
        control: the reference against itself; the ratio of its first latency is the A/A interval.
        limit: the largest half-width that is allowed, as a share: 0.05 is 5 %.
    """
    found = control.latency[0].faster_than_fp32 if control.latency else None
    if found is None:
        return None
    processes = len(control.latency[0].block_medians_s)
    if 0 < processes < FEWEST_PROCESSES:
        return (
            f"measured in {processes} processes of each engine, {FEWEST_PROCESSES} are needed to know how processes "
            "differ; raise benchmark.processes"
        )
    if control.latency[0].under_load:
        return (
            "the machine was under load while measuring: most blocks were cut into, long calls more than short ones; "
            "close other programs and run again"
        )
    half = (found.high - found.low) / 2
    if found.low <= 1.0 <= found.high and half <= limit:
        return None
    told = f"A/A {found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
    if half <= limit:
        return f"the machine was unstable while measuring ({told}); close other programs and run again"
    return (
        f"the machine was unstable while measuring ({told}, half-width {half:.3f}, at most {limit:g} allowed); "
        "close other programs or raise benchmark.processes, and run again"
    )


def crowded(elsewhere_cores: Iterable[float]) -> str | None:
    """What to say of programs that ran beside a measurement; None where hardly anything did.

    The A/A row does not show them: they slow the reference and its control alike, but large engines more than small ones.

    Args:
        elsewhere_cores: of each engine's timings, see `Disturbance.elsewhere_s`.
    """
    most = max(elsewhere_cores, default=0.0)
    if most < CROWDED_CORES:
        return None
    return (
        f"other programs kept {most:.1f} cores busy meanwhile; they share caches and memory with what is measured and slow "
        "large engines more than small ones, so that a ratio may be too high; close them and measure again"
    )
