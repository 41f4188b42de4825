"""The emulated ARM as an interpreter's path: .arm is a virtual environment whose Python runs under qemu.

`PYTHON` is used like any other: `subprocess.run([PYTHON, "script.py"])`, `ssh ... .arm/bin/python`; what it starts with
`sys.executable` is emulated too. QEMU_CPU chooses another processor than the Cortex-A76 (`max` has SVE and I8MM).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

FOLDER = Path(__file__).parents[2] / ".arm"
PYTHON = FOLDER / "bin" / "python"
INSTALLED = FOLDER / "installed.json"
"""Written last, when all before it worked: the versions of the wheels."""

SETUP = "set it up with: make arm (140 MB to download, 220 MB on disk, no root)"


def wanted_wheels() -> dict[str, str]:
    """What the emulated Python gets: the versions of this environment, so that both sides run the same runtime."""
    return {name: version(name) for name in ("numpy", "onnxruntime")}


def unavailable(installed: Path = INSTALLED, wanted: Mapping[str, str] | None = None) -> str | None:
    """Why nothing can run on emulated ARM here, and the command that changes that; None if it can."""
    if not installed.is_file():
        return f"no emulated ARM here; {SETUP}"
    has, needs = json.loads(installed.read_text()), wanted_wheels() if wanted is None else dict(wanted)
    if has != needs:
        return f"the emulated ARM has {_listed(has)}, this environment {_listed(needs)}; {SETUP}"
    return None


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
