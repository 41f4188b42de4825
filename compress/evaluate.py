"""The torch model's answers as the metric's rows."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from torch import nn

from benchmarks.metrics import Metric
from compress.workload import Batch
from export.calling import call
from export.errors import InputError, QualityError
from export.trace import evaluating


def evaluate(model: nn.Module, batches: Iterable[Batch], metric: Metric) -> np.ndarray:
    """The metric's statistics of every sample, shape (samples, k), from the model in eval mode.

    Raises:
        QualityError: if the first output holds NaN; names the batch.
        InputError: if there is no batch.
    """
    rows = []
    with evaluating(model):
        for number, (inputs, target) in enumerate(batches, start=1):
            outputs = call(model, inputs)[0].numpy()
            if count := int(np.isnan(outputs).sum()):
                raise QualityError(
                    f"the torch model gives NaN in batch {number} ({count} of {outputs.size} values); "
                    "check this batch's inputs and the model's weights"
                )
            rows.append(metric.statistics(outputs, target.numpy()))
    if not rows:
        raise InputError(f"{metric.name}: there are no batches to measure on; give at least one")
    return np.concatenate(rows)
