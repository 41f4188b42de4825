"""`compress doctor`: what this machine can compile for and run, and the install line for what is missing."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.machine import fingerprint, library_versions
from compress import __version__
from targets import TARGETS, target_class
from targets.isa import architecture, instruction_sets, slow_int8

SPEED_SETS = {
    "avx2": "FP32 on 256-bit vectors",
    "avx512f": "FP32 on 512-bit vectors",
    "vnni": "INT8 dot products: INT8 can reach 4x FP32",
    "bf16": "BF16 dot products: BF16 can reach 2x FP32",
    "amx": "INT8 and BF16 matrix tiles",
    "dotprod": "INT8 dot products on ARM",
}
"""Instruction sets that decide what a scheme can gain, and what they give."""


def print_doctor(console: Console) -> None:
    """Print machine, instruction sets, targets and library versions."""
    machine = fingerprint()
    console.print(
        f"[bold]edge-compress {__version__}[/bold]  Python {machine['python']}, {machine['system']} {machine['architecture']}"
    )
    console.print(f"{escape(machine['cpu'])}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.1f} GiB")
    present = instruction_sets()
    sets = Table("instruction set", "here", "what it gives", box=None, header_style="bold", pad_edge=False)
    for name, gives in SPEED_SETS.items():
        sets.add_row(name, "yes" if name in present else "no", gives)
    console.print(sets)
    bound = slow_int8(present, architecture())
    if bound is not None:
        console.print(f"[yellow]note:[/yellow] {bound}")
    targets = Table(
        "target", "compiles here", "runs here", "schemes offered here", box=None, header_style="bold", pad_edge=False
    )
    for name in TARGETS:
        target = target_class(name)()
        missing = target.unavailable()
        targets.add_row(
            name,
            escape(missing) if missing else "yes",
            "" if missing else escape(target.cannot_run() or "yes"),
            "" if missing else ", ".join(scheme.name for scheme in target.schemes()),
        )
    for column in targets.columns:
        column.overflow = "fold"
    console.print(targets)
    console.print("versions: " + ", ".join(f"{name} {version}" for name, version in library_versions().items()))
