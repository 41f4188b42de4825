"""Instruction sets of this machine's CPU that decide which number formats run fast on it."""

from __future__ import annotations

import platform
from collections.abc import Collection
from functools import cache
from pathlib import Path

# Feature -> the /proc/cpuinfo flags (x86 "flags", ARM "Features") any of which gives it.
_FLAGS: dict[str, frozenset[str]] = {
    "avx2": frozenset({"avx2"}),
    "avx512f": frozenset({"avx512f"}),
    "vnni": frozenset({"avx512_vnni", "avx_vnni"}),
    "bf16": frozenset({"avx512_bf16", "amx_bf16", "bf16"}),
    "fp16": frozenset({"avx512_fp16", "amx_fp16", "asimdhp"}),
    "amx": frozenset({"amx_tile"}),
    "dotprod": frozenset({"asimddp"}),
}
FEATURES: tuple[str, ...] = tuple(_FLAGS)


@cache
def instruction_sets() -> frozenset[str]:
    """Those of FEATURES that this CPU has; empty where the system does not tell (anything but Linux).

    A caller that finds nothing takes the careful way: whoever needs "vnni" must not assume it.
    """
    cpuinfo = Path("/proc/cpuinfo")
    return features_of(_flags(cpuinfo.read_text(errors="replace"))) if cpuinfo.is_file() else frozenset()


def features_of(flags: Collection[str]) -> frozenset[str]:
    """Features that a set of kernel CPU flags stands for."""
    return frozenset(feature for feature, names in _FLAGS.items() if not names.isdisjoint(flags))


def architecture() -> str:
    """The processor family in one spelling: "amd64", "arm64", or what the system calls it."""
    machine = platform.machine().lower()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def slow_int8(features: Collection[str], family: str) -> str | None:
    """Why INT8 cannot gain on a CPU what it gains elsewhere; None where it can, or nothing is known.

    Without a dot-product instruction an x86 core does 32 INT8 multiply-adds in a cycle (vpmaddubsw, then vpmaddwd)
    where it does 16 in FP32; with one 64 (Fog, "Instruction tables", agner.org/optimize).
    """
    known, dots = bool(features), {"vnni", "amx", "dotprod"}.intersection(features)
    if not known or dots:
        return None
    instruction, bound = ("VNNI", "about 2x") if family == "amd64" else ("dot product", "well under 4x")
    return (
        f"this CPU has no INT8 {instruction} instructions: INT8 is bound to {bound} FP32 here, and matrix products may even "
        "be slower. On a device that has them it can reach 4x: measure there before you decide"
    )


def _flags(cpuinfo: str) -> set[str]:
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return set(value.split())
    return set()
