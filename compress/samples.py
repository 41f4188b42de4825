"""The splits as arrays for the engines, their fingerprints, and the check that none reads what it must not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from benchmarks.accuracy import ArrayBatch
from benchmarks.metrics import IGNORED
from compress.padded import LengthBatches
from compress.workload import Batches, TensorBatches, Workload, to_numpy
from export.errors import InputError

SplitName = Literal["validation", "evaluation"]

FEW_SAMPLES = 100
"""Below this, calibration ranges depend on luck; the run warns."""


@dataclass(frozen=True)
class Split:
    """One split as named arrays, the same at every pass; `digests` identify its samples by content."""

    name: SplitName
    batches: Batches
    digests: frozenset[bytes]
    samples: int
    fingerprint: str
    number_of_batches: int

    def __iter__(self) -> Iterator[ArrayBatch]:
        for inputs, target in first_pass(self.batches):
            yield to_numpy(inputs), target.numpy()


def read_split(name: SplitName, batches: Batches) -> Split:
    """Go through a split once and remember what is in it.

    Raises:
        InputError: if it is empty, an input holds NaN or infinity, or no label counts.
    """
    digests: list[bytes] = []
    counts = False
    whole = hashlib.sha256()
    number = 0
    for inputs, target in first_pass(batches):
        arrays = to_numpy(inputs)
        _refuse_non_finite(name, number, arrays)
        digests += [sample_digest(arrays, index) for index in range(len(target))]
        whole.update(np.ascontiguousarray(target.numpy()).tobytes())
        counts |= bool((target != IGNORED).any())
        number += 1
    if not digests:
        raise InputError(f"{name}: holds no sample; it needs at least one")
    if not counts:
        raise InputError(
            f"{name}: every label is {IGNORED}, which counts nowhere: there is nothing to measure on; label at least one token"
        )
    for digest in digests:
        whole.update(digest)
    return Split(name, batches, frozenset(digests), len(digests), whole.hexdigest(), number)


def first_pass(batches: Batches) -> Batches:
    """Batches that give their first pass again each time, so that two readings see the same samples in one order."""
    return batches.at_pass(0) if isinstance(batches, TensorBatches) else batches


def samples_of(batches: Batches) -> Iterator[dict[str, torch.Tensor]]:
    """Each sample's named inputs, as a batch of one."""
    for inputs, target in first_pass(batches):
        for index in range(len(target)):
            yield {name: tensor[index : index + 1] for name, tensor in inputs.items()}


def sample_digest(arrays: Mapping[str, np.ndarray], index: int) -> bytes:
    """Content of one sample; padding at the end of integer rows does not count, since it depends on the batch."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        row = arrays[name][index]
        if row.ndim == 1 and np.issubdtype(row.dtype, np.integer):
            row = np.trim_zeros(row, "b")
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(row).tobytes())
    return digest.digest()


@dataclass(frozen=True)
class Calibration:
    """Single-sample inputs for INT8 ranges, read anew at each pass: memory does not grow with their number."""

    batches: Batches
    limit: int

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        taken = 0
        for inputs, target in first_pass(self.batches):
            arrays = to_numpy(inputs)
            for index in range(len(target)):
                if taken == self.limit:
                    return
                taken += 1
                yield {name: array[index : index + 1] for name, array in arrays.items()}


def calibration_of(workload: Workload, limit: int) -> Calibration:
    """Up to `limit` samples of the calibration batches, or of the first pass of training where there are none."""
    return Calibration(workload.calibration if workload.calibration is not None else workload.train, limit)


def check_calibration(calibration: Iterable[Mapping[str, np.ndarray]], evaluation: Split) -> int:
    """The number of calibration samples, none of which is an evaluation sample by content.

    Raises:
        InputError: if there is none, or with how many are in the evaluation set too.
    """
    samples = [sample_digest(arrays, 0) in evaluation.digests for arrays in calibration]
    if not samples:
        raise InputError("calibration: holds no sample; INT8 ranges need about 300 typical ones")
    shared = sum(samples)
    if shared:
        raise InputError(
            f"calibration: {shared} of its samples are evaluation samples too (same content); "
            "calibrate on training data only, else the reported accuracy is not what a user will see"
        )
    return len(samples)


def training_fingerprint(train: Batches) -> str:
    """What identifies the training data: all that lies in memory (TensorBatches, LengthBatches, a list); else the first batch.

    The first batch is drawn with torch's generator at a fixed seed, so that a shuffling DataLoader gives the same one.
    """
    whole = hashlib.sha256()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if isinstance(train, (TensorBatches, LengthBatches)):
            batches = [(train.inputs, train.target)]
        else:
            batches = train if isinstance(train, list) else [next(iter(train))]
    for inputs, target in batches:
        for name in sorted(inputs):
            whole.update(name.encode())
            whole.update(np.ascontiguousarray(inputs[name].numpy()).tobytes())
        whole.update(np.ascontiguousarray(target.numpy()).tobytes())
    return whole.hexdigest()


def _refuse_non_finite(name: str, batch: int, arrays: Mapping[str, np.ndarray]) -> None:
    for key, array in arrays.items():
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            bad = int(array.size - np.isfinite(array).sum())
            raise InputError(
                f"{name}: input '{key}' of batch {batch} holds {bad} NaN or infinite values; mend the data"
            )
