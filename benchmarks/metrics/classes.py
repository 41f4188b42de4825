"""Metrics of one class a sample: the predicted and the true class, and how sure the model was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmarks.metrics.checks import check_shapes

SUM_TOLERANCE = 1e-3
"""How far from 1 the outputs of a sample may add up to be taken as probabilities: those of an INT8 softmax are rounded."""


@dataclass(frozen=True)
class Accuracy:
    """Share of samples whose largest logit is the target; a single logit is read as a binary decision at 0."""

    name: str = "accuracy"
    higher_is_better: bool = True
    classifies: bool = True

    def statistics(self, outputs: np.ndarray, target: np.ndarray) -> np.ndarray:
        return classified(outputs, target, self.name)

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
        check_shapes(self.name, outputs.ndim == 2, "logits (batch, classes) and a target (batch,)", outputs, target)
        rows = classified(outputs, target, self.name)
        best = np.argsort(-outputs, axis=1, kind="stable")[:, : self.k]
        hit = (best == target.reshape(-1, 1)).any(axis=1)
        return np.column_stack([rows, hit])

    def value(self, statistics: np.ndarray) -> float:
        return float(np.mean(statistics[:, 3]))


@dataclass(frozen=True)
class F1:
    """F1 of the positive class (binary), the mean of the classes' F1 (macro), or that of all decisions together (micro).

    A class that is neither predicted nor present is left out of the macro mean, as scikit-learn does
    when the labels are those that occur. Micro F1 is accuracy under another name: with one class a sample, every wrong
    answer is one class too many and one too few. It is here for who must report it; for entities see EntityF1.
    """

    average: Literal["binary", "macro", "micro"] = "macro"
    positive: int = 1
    higher_is_better: bool = True
    classifies: bool = True

    @property
    def name(self) -> str:
        return f"f1_{self.average}"

    def statistics(self, outputs: np.ndarray, target: np.ndarray) -> np.ndarray:
        return classified(outputs, target, self.name)

    def value(self, statistics: np.ndarray) -> float:
        predicted, actual = statistics[:, 0].astype(np.int64), statistics[:, 1].astype(np.int64)
        if self.average == "micro":
            return float(np.mean(predicted == actual))
        if self.average == "binary":
            return _f1(predicted == self.positive, actual == self.positive)
        lowest = min(predicted.min(), actual.min())
        classes = int(max(predicted.max(), actual.max()) - lowest) + 1
        both = np.bincount(actual[predicted == actual] - lowest, minlength=classes)
        either = np.bincount(predicted - lowest, minlength=classes) + np.bincount(actual - lowest, minlength=classes)
        return float(np.mean(2.0 * both[either > 0] / either[either > 0]))


def classified(outputs: np.ndarray, target: np.ndarray, metric: str = "metric") -> np.ndarray:
    """Rows (predicted class, true class, probability of the predicted class), shape (batch, 3), float64.

    Raises:
        InputError: unless outputs are (batch, classes), (batch, 1) or (batch,) and the target holds one class a sample.
    """
    fit = outputs.ndim in (1, 2) and target.shape in ((len(outputs),), (len(outputs), 1))
    expected = (
        "logits (batch, classes) and a target (batch,), one class a sample (for a class a token see TokenAccuracy)"
    )
    check_shapes(metric, fit, expected, outputs, target)
    columns = [predicted_class(outputs), target.reshape(-1), confidence(outputs)]
    return np.stack(columns, axis=1).astype(np.float64)


def predicted_class(outputs: np.ndarray) -> np.ndarray:
    """The class of each row of logits, shape (batch, classes) -> (batch,)."""
    if outputs.ndim == 1 or outputs.shape[1] == 1:
        return (outputs.reshape(-1) > 0).astype(np.int64)
    best: np.ndarray = np.argmax(outputs, axis=1)
    return best


def confidence(outputs: np.ndarray) -> np.ndarray:
    """Probability of each row's predicted class, shape (batch, classes) -> (batch,).

    The softmax of the logits, or the sigmoid of a single one. A row that is not negative and adds up to 1 is taken as
    probabilities; each row is looked at by itself, so that the answer does not depend on the batch.
    """
    outputs = outputs.astype(np.float64)
    if outputs.ndim == 1 or outputs.shape[1] == 1:
        return np.asarray(1.0 / (1.0 + np.exp(-np.abs(outputs.reshape(-1)))))
    largest = outputs.max(axis=1)
    softmax = 1.0 / np.exp(outputs - largest[:, None]).sum(axis=1)
    are_probabilities = (outputs >= 0).all(axis=1) & (np.abs(outputs.sum(axis=1) - 1.0) <= SUM_TOLERANCE)
    return np.asarray(np.where(are_probabilities, np.minimum(largest, 1.0), softmax))


def _f1(predicted: np.ndarray, actual: np.ndarray) -> float:
    both, either = int(np.sum(predicted & actual)), int(np.sum(predicted)) + int(np.sum(actual))
    return 2.0 * both / either if either else 0.0
