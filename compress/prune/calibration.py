"""The samples that importance, repair and the accuracy along the way are taken on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from compress.padded import LengthBatches
from compress.samples import first_pass
from compress.workload import Batch, Batches, TensorBatches, Workload

VALIDATION_SAMPLES = 2000


@dataclass(frozen=True)
class FirstSamples:
    """The first `limit` samples of batches, the same at every pass; a shuffling DataLoader is seeded for that."""

    batches: Batches
    limit: int

    def __iter__(self) -> Iterator[Batch]:
        left = self.limit
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            batches = iter(first_pass(self.batches))
            batch = next(batches, None)
        while batch is not None and left > 0:
            inputs, target = batch
            yield {name: tensor[:left] for name, tensor in inputs.items()}, target[:left]
            left -= len(target)
            batch = next(batches, None)


@dataclass(frozen=True)
class InputsOf:
    """The inputs of batches without their targets, in batches of at most `most` samples."""

    batches: FirstSamples
    most: int

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for inputs, target in self.batches:
            for start in range(0, len(target), self.most):
                yield {name: tensor[start : start + self.most] for name, tensor in inputs.items()}


def calibration_of(workload: Workload, samples: int) -> FirstSamples:
    """Calibration batches, or the first pass of training where there are none."""
    return FirstSamples(workload.train if workload.calibration is None else workload.calibration, samples)


def validation_of(workload: Workload, samples: int = VALIDATION_SAMPLES) -> Batches:
    """Up to `samples` of the validation set, evenly spread where it lies in memory: it may be sorted, by class or length."""
    assert workload.validation is not None, "load_workload gives every workload a validation set"
    batches = first_pass(workload.validation)
    if not isinstance(batches, (TensorBatches, LengthBatches)):
        return FirstSamples(batches, samples)
    rows = torch.linspace(0, batches.samples - 1, min(samples, batches.samples)).round().long()
    return batches.take(rows)
