"""`local://[/folder]`: this machine, by the way that leads to others; nothing lies between."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compress.device.transport import Ran, Told, carried_out


@dataclass(frozen=True)
class Local:
    address: str = "local://"
    folder: str = "~/.edge-compress"
    python: str = sys.executable

    def run(self, words: Sequence[str], told: Told, source: Path | None = None) -> Ran:
        return carried_out(words, told, source)
