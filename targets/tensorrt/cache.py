"""What TensorRT found out once and need not find out again on this machine: one file each in the user's cache folder.

Nothing of it ships, and nothing is lost with it but time. TensorRT itself refuses what another GPU or version has written.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """COMPRESS_CACHE, else edge-compress in the user's cache folder; in it `tensorrt`."""
    own, users = os.environ.get("COMPRESS_CACHE"), os.environ.get("XDG_CACHE_HOME")
    base = Path(own) if own else (Path(users) if users else Path.home() / ".cache") / "edge-compress"
    return base / "tensorrt"


def cache_file(kind: str, *parts: str) -> Path:
    """The file of a kind ("timings", "kernels") that belongs to these parts: version, GPU, model."""
    return cache_folder() / f"{kind}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:32]}"


def read_cached(path: Path) -> bytes:
    """What was kept; nothing where nothing was, or where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def keep(path: Path, content: bytes) -> None:
    """Write whole or not at all; a folder that cannot be written costs the time that the cache would have saved.

    Workers that end together write the same file: each under a name of its own, the last one stays.
    """
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix="writing-") as folder:
            written = Path(folder) / path.name
            written.write_bytes(content)
            written.replace(path)
