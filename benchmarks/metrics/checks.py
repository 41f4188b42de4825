"""What the ready-made metrics refuse, each with a sentence, and the label that counts nowhere."""

from __future__ import annotations

import numpy as np

from export.errors import InputError

IGNORED = -100
"""Label of what counts nowhere: padding, sub-words after the first, the prompt. It is what torch's losses ignore."""


def check_shapes(metric: str, holds: bool, expected: str, outputs: np.ndarray, target: np.ndarray) -> None:
    """Refuse outputs and a target that do not fit together.

    Args:
        expected: what they must be, in words and shapes.

    Raises:
        InputError: unless `holds`; names both shapes.
    """
    if not holds:
        raise InputError(f"{metric}: expected {expected}; found outputs {outputs.shape} and target {target.shape}")


def check_labels(metric: str, labels: np.ndarray, classes: int, ignored: int = IGNORED) -> None:
    """Refuse labels that no class has.

    Args:
        labels: those that count, any shape.

    Raises:
        InputError: names the first one that is not from 0 to classes - 1.
    """
    wrong = labels[(labels < 0) | (labels >= classes)]
    if wrong.size:
        raise InputError(
            f"{metric}: labels must be from 0 to {classes - 1} for the {classes} classes of the outputs, or {ignored} where "
            f"nothing counts; found {wrong[0]}"
        )


def token_labels(metric: str, outputs: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels of tokens as integers and which of them count, both of shape (batch, length).

    Raises:
        InputError: unless the outputs are logits (batch, length, classes) and the target labels (batch, length).
    """
    fit = outputs.ndim == 3 and target.shape == outputs.shape[:2]
    expected = "logits (batch, length, classes) and a target (batch, length), one label a token"
    check_shapes(metric, fit, expected, outputs, target)
    labels = target.astype(np.int64)
    counted = labels != IGNORED
    check_labels(metric, labels[counted], outputs.shape[2])
    return labels, counted
