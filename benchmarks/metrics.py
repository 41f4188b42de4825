"""Ready-made metrics in numpy: per-sample sufficient statistics, and the value of any set of rows.

Statistics per sample are what makes paired intervals, flip rates and per-class figures possible:
they are computed once per engine and every figure of the report is derived from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np


class Metric(Protocol):
    """One shape for every task. `statistics` gives one row a sample; `value` reduces any set of rows.

    A metric that classifies keeps the predicted class in column 0 and the true class in column 1,
    so that flip rates and per-class figures can be read from the rows; it says so by `classifies`.
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


@dataclass(frozen=True)
class Accuracy:
    """Share of samples whose largest logit is the target; a single logit is read as a binary decision at 0."""

    name: str = "accuracy"
    higher_is_better: bool = True
    classifies: bool = True

    def statistics(self, outputs: np.ndarray, target: np.ndarray) -> np.ndarray:
        return np.stack([predicted_class(outputs), target.reshape(-1)], axis=1).astype(np.float64)

    def value(self, statistics: np.ndarray) -> float:
        return float(np.mean(statistics[:, 0] == statistics[:, 1]))


@dataclass(frozen=True)
class TopK:
    """Share of samples whose target is among the k largest logits."""

    k: int = 5
    higher_is_better: bool = True
    classifies: bool = True

    @property
    def name(self) -> str:
        return f"top{self.k}_accuracy"

    def statistics(self, outputs: np.ndarray, target: np.ndarray) -> np.ndarray:
        labels = target.reshape(-1)
        best = np.argsort(-outputs, axis=1, kind="stable")[:, : self.k]
        hit = (best == labels[:, None]).any(axis=1)
        return np.stack([best[:, 0], labels, hit], axis=1).astype(np.float64)

    def value(self, statistics: np.ndarray) -> float:
        return float(np.mean(statistics[:, 2]))


@dataclass(frozen=True)
class F1:
    """F1 of the positive class (binary), or the mean of the classes' F1 (macro).

    A class that is neither predicted nor present is left out of the macro mean, as scikit-learn does
    when the labels are those that occur.
    """

    average: Literal["binary", "macro"] = "macro"
    positive: int = 1
    higher_is_better: bool = True
    classifies: bool = True

    @property
    def name(self) -> str:
        return f"f1_{self.average}"

    def statistics(self, outputs: np.ndarray, target: np.ndarray) -> np.ndarray:
        return np.stack([predicted_class(outputs), target.reshape(-1)], axis=1).astype(np.float64)

    def value(self, statistics: np.ndarray) -> float:
        predicted, actual = statistics[:, 0], statistics[:, 1]
        classes = [float(self.positive)] if self.average == "binary" else np.union1d(predicted, actual).tolist()
        return float(np.mean([_f1(predicted == label, actual == label) for label in classes]))


def predicted_class(outputs: np.ndarray) -> np.ndarray:
    """The class of each row of logits, shape (batch, classes) -> (batch,)."""
    if outputs.ndim == 1 or outputs.shape[1] == 1:
        return (outputs.reshape(-1) > 0).astype(np.int64)
    best: np.ndarray = np.argmax(outputs, axis=1)
    return best


def _f1(predicted: np.ndarray, actual: np.ndarray) -> float:
    both, either = int(np.sum(predicted & actual)), int(np.sum(predicted)) + int(np.sum(actual))
    return 2.0 * both / either if either else 0.0
