"""The kernel counts the pages that it hands out: they are what reuse saves."""

from __future__ import annotations

import platform
import resource

import pytest
import torch

from compress.training.reuse_memory import memory_reused

SIDE = 1024
"""A float32 square of this side is 4 MiB: 1,024 pages of 4 KiB."""


def pages_of_ten_squares() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.zeros(SIDE, SIDE).add_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc can be told")
def test_pages_are_asked_for_once_and_given_back_after() -> None:
    with memory_reused():
        pages_of_ten_squares()
        reused = pages_of_ten_squares()
    after = pages_of_ten_squares()
    assert reused < 1024, "less than a single square"
    assert after > 10 * reused, "as before"


def test_another_libc_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2"))
    monkeypatch.setattr("ctypes.CDLL", lambda name: pytest.fail("nothing to be called there"))
    with memory_reused():
        assert torch.ones(2).sum() == 2
