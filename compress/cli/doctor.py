"""`compress doctor`: what this machine can compile for and run, and the install line for what is missing."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.machine import fingerprint, library_versions
from compress import __version__
from export.errors import EnvironmentFailure
from targets import REGISTRY, Target
from targets.isa import architecture, instruction_sets, slow_int8
from targets.registry import Registry, registrations

STEPS = "edge_compress.steps"
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
    for name, origin in _listed(REGISTRY):
        targets.add_row(*map(escape, (f"{name}{origin}", *_verdict(name))))
    for column in targets.columns:
        column.overflow = "fold"
    console.print(targets)
    for each in registrations(STEPS):
        console.print(escape(f"step {each.name} ({each.origin}): {_usability(each.name)}"))
    console.print("versions: " + ", ".join(f"{name} {version}" for name, version in library_versions().items()))


def _listed(registry: Registry) -> list[tuple[str, str]]:
    """Each key, and in words whose it is where it is not this toolkit's; a key that several claim stands for each of them."""
    others = [(each.name, f" ({each.origin})") for each in registrations(registry.group)]
    return [*((name, "") for name in registry.builtin), *others]


def _verdict(name: str) -> tuple[str, str, str]:
    """Compiles here, runs here, and the schemes offered."""
    try:
        target: Target = REGISTRY.load(name)()
        missing = target.unavailable()
        if missing:
            return missing, "", ""
        return "yes", target.cannot_run() or "yes", ", ".join(scheme.name for scheme in target.schemes())
    except EnvironmentFailure as error:
        return f"refused: {error}", "", ""


def _usability(name: str) -> str:
    from compress.step import REGISTRY  # with torch

    try:
        REGISTRY.load(name)
    except EnvironmentFailure as error:
        return f"refused: {error}"
    return "can be used"
