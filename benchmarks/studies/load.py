"""A load beside the measurement: threads that never rest, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

BUSY = "import math\nwhile True:\n    math.sqrt(2.0)"


@contextmanager
def load_of(threads: int) -> Iterator[None]:
    """`threads` processes of one busy thread each, on whatever cores the system gives them."""
    running = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(threads)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()
