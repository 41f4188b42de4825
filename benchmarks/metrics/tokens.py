"""Metrics of one label a token: how many are right, and how sure a language model is of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from benchmarks.metrics.checks import token_labels

MOST_NATS = 700.0
"""Mean loss above which perplexity is told as exp(700): the exponential ends at 709, and a report holds no infinity."""


@dataclass(frozen=True)
class TokenAccuracy:
    """Share of tokens whose largest logit is the label, of all tokens that count; for masked language models and taggers.

    Labels are IGNORED where nothing counts: padding, and in a masked language model all that was not masked.
    """

    name: str = "token_accuracy"
    higher_is_better: bool = True
    classifies: bool = False

    def statistics(self, outputs: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Rows (tokens right, tokens counted) from logits (batch, length, classes) and labels (batch, length)."""
        labels, counted = token_labels(self.name, outputs, target)
        right = (outputs.argmax(axis=2) == labels) & counted
        return np.stack([right.sum(axis=1), counted.sum(axis=1)], axis=1).astype(np.float64)

    def value(self, statistics: np.ndarray) -> float:
        right, counted = statistics.sum(axis=0)
        return float(right / max(counted, 1.0))


@dataclass(frozen=True)
class Perplexity:
    """exp of the mean negative log-likelihood of a token, over all tokens that count. Lower is better.

    The target is shifted by the workload: target[i] is the token that follows position i, and IGNORED where there is none.
    Figures are comparable between models of one tokenizer only.

    Source: Jelinek et al. 1977, doi:10.1121/1.2016299.
    """

    name: str = "perplexity"
    higher_is_better: bool = False
    classifies: bool = False

    def statistics(self, outputs: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Rows (sum of the negative log-likelihoods in nats, tokens) from logits (batch, length, vocabulary).

        Sample by sample: with a vocabulary of 50,000 a second copy of a batch's logits would be what fills the memory.
        """
        labels, counted = token_labels(self.name, outputs, target)
        rows = np.empty((len(outputs), 2))
        for row, logits, following, which in zip(rows, outputs, labels, counted, strict=True):
            row[:] = _nats(logits[which], following[which]).sum(), which.sum()
        return rows

    def value(self, statistics: np.ndarray) -> float:
        nats, tokens = statistics.sum(axis=0)
        return math.exp(min(nats / max(tokens, 1.0), MOST_NATS))


def _nats(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Negative log-likelihood of each label in float64, shape (tokens,).

    Args:
        logits: shape (tokens, vocabulary); overwritten.
    """
    logits = logits.astype(np.promote_types(logits.dtype, np.float32), copy=False)
    chosen, largest = logits[np.arange(len(labels)), labels], logits.max(axis=1)
    logits -= largest[:, None]
    np.exp(logits, out=logits)
    return np.asarray(np.log(logits.sum(axis=1, dtype=np.float64)) + (largest.astype(np.float64) - chosen))
