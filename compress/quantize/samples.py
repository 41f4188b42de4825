"""Calibration samples spooled to disk, to be read again and again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from targets.base import Arrays


class Samples:
    """Single samples on disk: quantizing passes over the data several times, and the caller gives it once.

    Single, because NNCF averages the largest value over items: with batches for items, ranges would grow with their size.
    """

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self._paths = paths

    @classmethod
    def spool(cls, batches: Iterator[Arrays], folder: Path) -> Samples:
        """Write what `batches` give, sample by sample, into `folder`."""
        paths: list[Path] = []
        for batch in batches:
            for row in range(len(next(iter(batch.values())))):
                paths.append(folder / f"sample-{len(paths)}.npz")
                np.savez(paths[-1], **{name: array[row : row + 1] for name, array in batch.items()})  # type: ignore[arg-type]
        return cls(tuple(paths))

    def few(self, most: int) -> Samples:
        """At most so many of them, evenly spread over all."""
        if len(self._paths) <= most:
            return self
        return Samples(tuple(self._paths[index * len(self._paths) // most] for index in range(most)))

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[Arrays]:
        for path in self._paths:
            with np.load(path, allow_pickle=False) as arrays:
                yield dict(arrays)
