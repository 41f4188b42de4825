"""What a run shows while it works. `Quiet` for Python callers; `Terminal` draws bars with the time left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol, TypeVar

from export.progress import Track, silent

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")


class Show(Protocol):
    """A run in units of work (a step, a compilation, a measurement), and sentences between them."""

    @property
    def track(self) -> Track:
        """Wraps a loop."""

    def say(self, text: str) -> None:
        """A sentence that stays on the screen."""

    def expect(self, units: int) -> None:
        """That many more units of work are ahead."""

    def unit(self, description: str) -> AbstractContextManager[None]:
        """One unit of work."""


class Quiet:
    """Shows nothing."""

    @property
    def track(self) -> Track:
        return silent

    def say(self, text: str) -> None:
        return None

    def expect(self, units: int) -> None:
        return None

    def unit(self, description: str) -> AbstractContextManager[None]:
        return nullcontext()


class Terminal:
    """Bars on a terminal: the whole run with the time left, and below it the loop that is under way."""

    def __init__(self, console: Console) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._whole = self._progress.add_task("whole run", total=0)

    def say(self, text: str) -> None:
        self._progress.console.print(text, highlight=False)

    def expect(self, units: int) -> None:
        self._progress.update(self._whole, total=(self._progress.tasks[0].total or 0) + units)

    @contextmanager
    def unit(self, description: str) -> Iterator[None]:
        self._progress.update(self._whole, description=f"whole run: {description}")
        yield
        self._progress.advance(self._whole)

    @property
    def track(self) -> Track:
        return self._track

    def _track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        task = self._progress.add_task(f"  {description}", total=total)
        try:
            for item in items:
                yield item
                self._progress.advance(task)
        finally:
            self._progress.remove_task(task)

    def __enter__(self) -> Terminal:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
