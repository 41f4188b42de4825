"""Was the device the same machine at the end? What heat, power and emulation do to a measurement, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

HOT_C = 80.0
"""Where boards without a fan begin to throttle (a Raspberry Pi at 80, phones and laptops from 75 to 95)."""
SLOWER = 0.85
"""Share of its clock before, below which the fastest core fell: governors and turbo move by less."""

_PI_NOW = {
    0: "the supply voltage is too low",
    1: "the clock is capped",
    2: "it throttles",
    3: "it is at its heat limit",
}
"""Bits of a Raspberry Pi's flags; 16 higher: that it happened since boot."""


def emulation(machine: Mapping[str, Any]) -> Iterable[str]:
    """That times of an emulated processor are no times of a device."""
    if "emulated_by" in machine:
        yield (
            f"the processor is emulated by {machine['emulated_by']}: that the answers are right holds, the times are no "
            "device's and no speed is claimed from them"
        )


def heat(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterable[str]:
    """What changed between two states of one machine (`benchmarks.machine.state`) so that its times are no longer alike."""
    yield from _throttled(before.get("throttling", {}), after.get("throttling", {}))
    limits = [state.get("clock_limit_mhz", 0) for state in (before, after)]
    if 0 < limits[1] < limits[0]:
        yield f"the highest clock allowed fell from {limits[0]} to {limits[1]} MHz while measuring: the device was throttled"
    clocks = [max(state.get("clocks_mhz", [0])) for state in (before, after)]
    if 0 < clocks[1] < SLOWER * clocks[0]:
        yield f"the fastest core ran at {clocks[0]} MHz before and at {clocks[1]} MHz after measuring"
    sensors = after.get("temperatures_c", {})
    if sensors and max(sensors.values()) >= HOT_C:
        name = max(sensors, key=sensors.__getitem__)
        was = before.get("temperatures_c", {}).get(name)
        yield f"the device got hot: {name} {sensors[name]:.0f} °C" + ("" if was is None else f", {was:.0f} °C before")


def _throttled(before: Mapping[str, int], after: Mapping[str, int]) -> Iterable[str]:
    times = after.get("times", 0) - before.get("times", 0)
    if times > 0:
        yield f"the processor was throttled {times} times while measuring; let it cool, or give it a fan"
    flags, earlier = after.get("flags", 0), before.get("flags", 0)
    for bit, words in _PI_NOW.items():
        if flags & 1 << bit or flags & ~earlier & 1 << (bit + 16):
            yield f"the board tells that {words}"
    if after.get("cooling", 0) > before.get("cooling", 0):
        yield "the kernel held the clocks back to cool the processor while measuring"
