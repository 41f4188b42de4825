"""The golden inputs of a bundle, what the engine answered to them where it was packed, and what a test against them found."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.bundle.manifest import Manifest
from export.errors import SecurityError
from targets.base import Arrays

Sample = tuple[Arrays, Arrays]
"""Inputs and expected outputs by name, each with a batch of one as first axis."""

_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(\|[biu]1|<[iuf][248])', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,9}, ?){0,8}\d{0,9})\), \} {0,64}\n",
    re.DOTALL,
)


@dataclass(frozen=True)
class Selftest:
    """What was found; times in seconds.

    Args:
        load_s: opening the engine, the runtime's import left out.
        first_s: the first inference.
        following_s: the median of all others.
        findings: a sentence for each output that is not what it should be; none if the test is passed.
        closest: the largest difference found, as a share of what is allowed.
        unlike: of a model that writes: answers with another token than where it was packed, one as likely.
    """

    samples: int
    load_s: float
    first_s: float
    following_s: float
    findings: tuple[str, ...]
    closest: float
    unlike: int = 0

    @property
    def passed(self) -> bool:
        return not self.findings


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
    """The array in a .npy file, writable for runtimes that share it.

    The header is matched, not evaluated as numpy does, and believed only where the bytes behind it bear it out.

    Source: numpy.org/doc/stable/reference/generated/numpy.lib.format.html, version 1.0
    """
    content = (folder / file).read_bytes()
    header = _HEADER.match(content)
    if header is None:
        raise SecurityError(f"{file}: holds no plain array of numbers; fetch the bundle again")
    descr, by_columns, extents = (group.decode() for group in header.groups())
    shape, dtype = tuple(int(extent) for extent in extents.split(",") if extent.strip()), np.dtype(descr)
    if shape[:1] != (samples,) or math.prod(shape) * dtype.itemsize != len(content) - header.end():
        raise SecurityError(
            f"{file}: holds {len(content) - header.end():,} bytes as an array of shape {shape} of {dtype}; "
            f"{samples} samples are meant, fetch the bundle again"
        )
    values = np.frombuffer(bytearray(content[header.end() :]), dtype)
    return values.reshape(shape, order="F" if by_columns == "True" else "C")
