"""Metrics of answers with a figure or a class at every place: regression, and segmentation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.metrics.checks import IGNORED, check_labels, check_shapes


@dataclass(frozen=True)
class MeanSquaredError:
    """Mean of the squared differences over all elements of all samples. Lower is better."""

    name: str = "mean_squared_error"
    higher_is_better: bool = False
    classifies: bool = False

    def statistics(self, outputs: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Rows (sum of squared errors, elements); outputs and target have one shape, or (batch, 1) and (batch,)."""
        fit = outputs.ndim > 0 and (outputs.shape == target.shape or outputs.shape == (*target.shape, 1))
        check_shapes(self.name, fit, "outputs and a target of the same shape (batch, ...)", outputs, target)
        errors = outputs.astype(np.float64).reshape(len(outputs), -1) - target.reshape(len(target), -1)
        return np.stack([(errors**2).sum(axis=1), np.full(len(errors), float(errors.shape[1]))], axis=1)

    def value(self, statistics: np.ndarray) -> float:
        squares, elements = statistics.sum(axis=0)
        return float(squares / max(elements, 1.0))


@dataclass(frozen=True)
class MeanIoU:
    """Mean over the classes of intersection over union, pixels of all samples together; for semantic segmentation.

    A class that is neither predicted nor present is left out of the mean.

    Args:
        classes: how many the outputs hold.
        ignored: label of pixels that count nowhere; so does IGNORED.

    Source: Everingham et al. 2015, doi:10.1007/s11263-014-0733-5 (PASCAL VOC).
    """

    classes: int
    ignored: int = 255
    name: str = "mean_iou"
    higher_is_better: bool = True
    classifies: bool = False

    def statistics(self, outputs: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Rows (intersections, then unions, in pixels, class by class) from logits (batch, classes, height, width)."""
        fit = (
            outputs.ndim == 4
            and outputs.shape[1] == self.classes
            and target.shape == (len(outputs), *outputs.shape[2:])
        )
        expected = f"logits (batch, {self.classes}, height, width) and a target (batch, height, width) of the same size"
        check_shapes(self.name, fit, expected, outputs, target)
        labels, predicted = target.astype(np.int64), outputs.argmax(axis=1)
        counted = (labels != self.ignored) & (labels != IGNORED)
        check_labels(self.name, labels[counted], self.classes, self.ignored)
        rows = np.empty((len(outputs), 2 * self.classes))
        for row, guess, truth, which in zip(rows, predicted, labels, counted, strict=True):
            row[:] = self._areas(guess[which], truth[which])
        return rows

    def value(self, statistics: np.ndarray) -> float:
        both, either = statistics.sum(axis=0).reshape(2, -1)
        occurs = either > 0
        return float(np.mean(both[occurs] / either[occurs])) if occurs.any() else 0.0

    def _areas(self, predicted: np.ndarray, actual: np.ndarray) -> np.ndarray:
        """Intersections, then unions, of the classes; from flat labels."""
        both, found, true = (
            np.bincount(labels, minlength=self.classes) for labels in (actual[predicted == actual], predicted, actual)
        )
        return np.concatenate([both, found + true - both])
