"""The torch model's answers as the metric's rows."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from benchmarks.metrics import Metric
from compress.training.channels_last import channels_last
from compress.workload import Batch
from export.calling import call
from export.errors import InputError, QualityError
from export.trace import evaluating


def evaluate(model: nn.Module, batches: Iterable[Batch], metric: Metric) -> np.ndarray:
    """The metric's statistics of every sample, shape (samples, k), from the model in eval mode, on the device it is on.

    Raises:
        QualityError: if the first output holds NaN; names the batch.
        InputError: if there is no batch.
    """
    rows = []
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    with evaluating(model), channels_last(model):
        for number, (inputs, target) in enumerate(batches, start=1):
            outputs = call(model, {name: tensor.to(device) for name, tensor in inputs.items()})[0].cpu().numpy()
            if count := int(np.isnan(outputs).sum()):
                raise QualityError(
                    f"the torch model gives NaN in batch {number} ({count} of {outputs.size} values); "
                    "check this batch's inputs and the model's weights"
                )
            rows.append(metric.statistics(outputs, target.numpy()))
    if not rows:
        raise InputError(f"{metric.name}: there are no batches to measure on; give at least one")
    return np.concatenate(rows)
