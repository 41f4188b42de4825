"""Freed memory stays with the process while it trains, instead of going back to the system after every layer.

glibc maps each large tensor anew and unmaps it when it is freed, and the kernel clears every page again. A training step of
ResNet-56 at half its inner channels beside its teacher (channels last, batches of 64, one thread) takes 0.95 s of CPU
time so, 0.21 s of it in the kernel, and 0.74 s with memory reused.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's malloc.h."""

LARGEST_MMAP_THRESHOLD = 32 * 2**20
"""Bytes; glibc refuses more. Larger tensors are mapped anew all the same."""

DEFAULT_THRESHOLD = 128 * 2**10
"""Bytes; of both, see mallopt(3)."""


@contextmanager
def memory_reused() -> Iterator[None]:
    """While this lasts, memory is kept; afterwards what is free goes back. Nothing changes without glibc."""
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
    libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_THRESHOLD, DEFAULT_THRESHOLD)
        libc.mallopt(M_TRIM_THRESHOLD, DEFAULT_THRESHOLD)
        libc.malloc_trim(0)
