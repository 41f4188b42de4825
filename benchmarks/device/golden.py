"""The golden inputs of a bundle, and what the engine answered to them where it was packed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path

import numpy as np

from export.bundle.manifest import Manifest
from export.errors import SecurityError
from targets.base import Arrays

Sample = tuple[Arrays, Arrays]
"""Inputs and expected outputs by name, each with a batch of one as first axis."""


def golden_samples(manifest: Manifest, folder: Path) -> list[Sample]:
    """All golden samples of an unpacked bundle.

    Raises:
        SecurityError: if a file is not the array that the manifest tells of.
    """
    return list(_samples(manifest, folder))


def pools(samples: list[Sample]) -> list[list[Mapping[str, np.ndarray]]]:
    """The inputs in groups of equal shapes, the largest group first: what timed calls run on."""
    found: dict[tuple[tuple[int, ...], ...], list[Mapping[str, np.ndarray]]] = {}
    for inputs, _ in samples:
        found.setdefault(tuple(array.shape for array in inputs.values()), []).append(inputs)
    return sorted(found.values(), key=len, reverse=True)


def _samples(manifest: Manifest, folder: Path) -> Iterator[Sample]:
    for group in manifest.golden.groups:
        inputs, outputs = (
            {name: _array(folder, file, group.samples) for name, file in files.items()}
            for files in (group.inputs, group.outputs)
        )
        for index in range(group.samples):
            rows = slice(index, index + 1)
            yield (
                {name: array[rows] for name, array in inputs.items()},
                {name: array[rows] for name, array in outputs.items()},
            )


def _array(folder: Path, file: str, samples: int) -> np.ndarray:
    try:
        array = np.load(BytesIO((folder / file).read_bytes()), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise SecurityError(f"{file}: holds no plain array ({error})") from error
    if not isinstance(array, np.ndarray) or array.ndim < 1 or len(array) != samples:
        raise SecurityError(f"{file}: holds no array of {samples} samples")
    return array
