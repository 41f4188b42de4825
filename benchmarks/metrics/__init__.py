"""Ready-made metrics in numpy: per-sample sufficient statistics, and the value of any set of rows.

Statistics per sample are what makes paired intervals, flip rates and per-class figures possible:
they are computed once per engine and every figure of the report is derived from them.
"""

from __future__ import annotations

import re
from typing import Protocol

import numpy as np

from benchmarks.metrics.classes import F1, Accuracy, TopK, classified, confidence, predicted_class

__all__ = ["F1", "Accuracy", "Metric", "TopK", "classified", "confidence", "predicted_class", "ready_made"]


class Metric(Protocol):
    """One shape for every task. `statistics` gives one row a sample; `value` reduces any set of rows.

    A metric that classifies says so by `classifies` and keeps the predicted class in column 0, the true class in
    column 1 and, where it has one, the probability of the predicted class in column 2; what else it needs comes after
    these. Flip rates, per-class figures and the calibration error are read from them. With two columns there is no
    calibration error.
    """

    @property
    def name(self) -> str: ...

    @property
    def higher_is_better(self) -> bool: ...

    @property
    def classifies(self) -> bool: ...

    def statistics(self, outputs: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Rows of shape (batch, k) from the model's first output and the batch's target."""

    def value(self, statistics: np.ndarray) -> float:
        """The metric of `statistics`, shape (samples, k)."""


def ready_made(name: str) -> Metric | None:
    """The metric of this module that a report names; None for a user's own."""
    if found := re.fullmatch(r"top(\d+)_accuracy", name):
        return TopK(int(found[1]))
    metrics: tuple[Metric, ...] = (Accuracy(), F1("macro"), F1("binary"))
    return next((metric for metric in metrics if metric.name == name), None)
