"""Which samples pruning measures on along the way."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.metrics import Accuracy
from compress.padded import LengthBatches
from compress.prune.calibration import validation_of
from compress.workload import Batches, TensorBatches, Workload


def labels(batches: Batches) -> list[int]:
    return sorted(int(label) for _, target in batches for label in target)


def test_some_of_a_sorted_validation_set_lie_evenly_over_all_of_it() -> None:
    """Texts from one token to ten: the first five would be the short ones alone."""
    mask = torch.ones(10, 10).tril().long()
    inputs = {"ids": mask * 7, "attention_mask": mask}
    for batches in (
        TensorBatches(inputs, torch.arange(10), batch_size=3),
        LengthBatches(inputs, torch.arange(10), batch_size=3),
    ):
        workload = Workload(
            nn.Identity(), inputs, {}, batches, batches, nn.functional.cross_entropy, Accuracy(), validation=batches
        )
        assert labels(validation_of(workload, 5)) == [0, 2, 4, 7, 9]
        assert labels(validation_of(workload, 99)) == list(range(10))
