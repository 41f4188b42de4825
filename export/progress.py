"""Progress without a dependency: whoever loops takes a Track, the command line passes one that draws bars."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Track(Protocol):
    """Yields the items unchanged and shows how far it is; `total` is the number of items where it is known."""

    def __call__(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]: ...


def silent(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """The Track that shows nothing."""
    yield from items


class Lines:
    """A Track that prints a line now and then: a log file of it stays readable.

    Args:
        every: items between two lines.
    """

    def __init__(self, every: int) -> None:
        self._every = every

    def __call__(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        started_s = time.monotonic()
        for done, item in enumerate(items, start=1):
            yield item
            if total is not None and done % self._every == 0:
                left_s = (time.monotonic() - started_s) / done * (total - done)
                print(f"{description}: {done} of {total} steps, {left_s:.0f} s left", flush=True)
