"""Ready-made metrics in numpy: per-sample sufficient statistics, and the value of any set of rows.

Statistics per sample are what makes paired intervals, flip rates and per-class figures possible:
they are computed once per engine and every figure of the report is derived from them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from benchmarks.metrics.checks import IGNORED
from benchmarks.metrics.classes import F1, Accuracy, TopK, classified, confidence, predicted_class
from benchmarks.metrics.dense import MeanIoU, MeanSquaredError
from benchmarks.metrics.entities import EntityF1
from benchmarks.metrics.error_rate import ErrorRate
from benchmarks.metrics.text import BLEU, ROUGE, ChrF, sacrebleu_installed
from benchmarks.metrics.tokens import Perplexity, TokenAccuracy

__all__ = [
    "BLEU",
    "F1",
    "IGNORED",
    "ROUGE",
    "Accuracy",
    "ChrF",
    "EntityF1",
    "ErrorRate",
    "MeanIoU",
    "MeanSquaredError",
    "Metric",
    "Perplexity",
    "TokenAccuracy",
    "TopK",
    "classified",
    "confidence",
    "predicted_class",
    "ready_made",
]


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
        """Rows of shape (batch, k), float64, from the model's first output and the batch's target.

        What a sample's tokens or pixels tell is added up to one row, so that samples can be drawn as wholes.

        Raises:
            InputError: if the two do not have the shapes that the metric reads.
        """

    def value(self, statistics: np.ndarray) -> float:
        """The metric of `statistics`, shape (samples, k): of any rows, also drawn with repetition."""


def ready_made(name: str) -> Metric | None:
    """The metric of this package that a report names, for the rows that its run kept; None for a user's own.

    A name says nothing of labels, references or decoding, and `value` needs none of them: what is held without them
    gives the value of any rows, and refuses `statistics`. None too for BLEU and chrF where sacrebleu is not installed.
    """
    if found := re.fullmatch(r"top(\d+)_accuracy", name):
        return TopK(int(found[1]))
    classes = (Accuracy(), F1("macro"), F1("binary"), F1("micro"))
    tokens = (TokenAccuracy(), Perplexity(), EntityF1(()))
    dense = (MeanSquaredError(), MeanIoU(classes=0))
    rouge = (ROUGE((), _no_text, "1"), ROUGE((), _no_text, "2"), ROUGE((), _no_text, "L"))
    errors = (ErrorRate((), _no_text, "words"), ErrorRate((), _no_text, "characters"))
    counted = (BLEU((), _no_text), ChrF((), _no_text)) if sacrebleu_installed() else ()
    metrics: tuple[Metric, ...] = (*classes, *tokens, *dense, *rouge, *errors, *counted)
    return next((metric for metric in metrics if metric.name == name), None)


def _no_text(ids: Sequence[int]) -> str:
    """Stands for a decoder that a report's name does not tell; a metric without references never calls it."""
    return ""
