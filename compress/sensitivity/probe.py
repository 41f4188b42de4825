"""A few validation samples with the original's answers: what a change of one layer is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from benchmarks.measurements import Interval
from benchmarks.metrics import Metric
from benchmarks.sensitivity import LayerCost, signal_to_noise
from benchmarks.statistics import paired_difference
from compress.prune.calibration import validation_of
from compress.workload import Batch, Workload
from export.calling import call


@dataclass(frozen=True)
class Probe:
    """Samples, and the original's answers to them.

    Args:
        outputs: the original's first output, an array a batch, the sample as first axis; lengths differ between batches.
        rows: the metric's statistics of the same samples.
    """

    metric: Metric
    batches: Sequence[Batch]
    outputs: Sequence[np.ndarray]
    rows: np.ndarray

    @classmethod
    def of(cls, workload: Workload, samples: int) -> Probe:
        """On `samples` validation samples."""
        batches = list(validation_of(workload, samples))
        outputs = outputs_of(workload.model, batches)
        return cls(workload.metric, batches, outputs, _rows(workload.metric, batches, outputs))

    def cost(self, layer: str, change: str, outputs: Sequence[np.ndarray]) -> LayerCost:
        """Of a change after which the model gives these outputs."""
        difference = Interval(0.0, 0.0, 0.0)
        if not all(map(np.array_equal, outputs, self.outputs)):
            difference = paired_difference(self.metric.value, _rows(self.metric, self.batches, outputs), self.rows)
        return LayerCost(layer, change, signal_to_noise(self.outputs, outputs), difference)


def outputs_of(model: nn.Module, batches: Sequence[Batch]) -> list[np.ndarray]:
    """The first output of a model in eval mode, an array a batch, the sample as first axis."""
    with torch.inference_mode():
        return [call(model, inputs)[0].float().numpy() for inputs, _ in batches]


def _rows(metric: Metric, batches: Sequence[Batch], outputs: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(
        [metric.statistics(part, target.numpy()) for part, (_, target) in zip(outputs, batches, strict=True)]
    )
