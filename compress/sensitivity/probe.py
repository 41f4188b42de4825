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
from compress.samples import first_pass
from compress.workload import Batch, Workload
from export.calling import call


@dataclass(frozen=True)
class Probe:
    """Samples, and the original's answers to them.

    Args:
        outputs: the original's first output, the sample as first axis.
        rows: the metric's statistics of the same samples.
    """

    metric: Metric
    batches: Sequence[Batch]
    outputs: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, workload: Workload, samples: int) -> Probe:
        """On the first `samples` validation samples."""
        assert workload.validation is not None, "load_workload gives every workload a validation set"
        batches: list[Batch] = []
        left = samples
        for inputs, target in first_pass(workload.validation):
            batches.append(({name: tensor[:left] for name, tensor in inputs.items()}, target[:left]))
            left -= len(target)
            if left <= 0:
                break
        outputs = outputs_of(workload.model, batches)
        return cls(workload.metric, batches, outputs, _rows(workload.metric, batches, outputs))

    def cost(self, layer: str, change: str, outputs: np.ndarray) -> LayerCost:
        """Of a change after which the model gives these outputs."""
        difference = Interval(0.0, 0.0, 0.0)
        if not np.array_equal(outputs, self.outputs):
            difference = paired_difference(self.metric.value, _rows(self.metric, self.batches, outputs), self.rows)
        return LayerCost(layer, change, signal_to_noise(self.outputs, outputs), difference)


def outputs_of(model: nn.Module, batches: Sequence[Batch]) -> np.ndarray:
    """The first output of a model in eval mode, the sample as first axis."""
    with torch.inference_mode():
        return np.concatenate([call(model, inputs)[0].float().numpy() for inputs, _ in batches])


def _rows(metric: Metric, batches: Sequence[Batch], outputs: np.ndarray) -> np.ndarray:
    ends = np.cumsum([len(target) for _, target in batches])[:-1]
    parts = np.split(outputs, ends)
    return np.concatenate(
        [metric.statistics(part, target.numpy()) for part, (_, target) in zip(parts, batches, strict=True)]
    )
