from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, top_k_accuracy_score

from benchmarks.metrics import F1, Accuracy, TopK


@pytest.fixture
def logits_and_target() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return generator.normal(size=(400, 7)), generator.integers(0, 7, size=400)


def test_values_equal_scikit_learns(logits_and_target: tuple[np.ndarray, np.ndarray]) -> None:
    logits, target = logits_and_target
    predicted = logits.argmax(axis=1)
    for metric, expected in (
        (Accuracy(), accuracy_score(target, predicted)),
        (TopK(3), top_k_accuracy_score(target, logits, k=3, labels=range(7))),
        (F1(), f1_score(target, predicted, average="macro")),
    ):
        assert metric.value(metric.statistics(logits, target)) == pytest.approx(expected)


def test_binary_f1_from_one_logit_equals_scikit_learns() -> None:
    generator = np.random.default_rng(1)
    logits, target = generator.normal(size=(300, 1)), generator.integers(0, 2, size=300)
    metric = F1("binary")
    expected = f1_score(target, (logits[:, 0] > 0).astype(int))
    assert metric.value(metric.statistics(logits, target)) == pytest.approx(expected)


def test_statistics_of_batches_put_together_give_the_value_of_the_whole(
    logits_and_target: tuple[np.ndarray, np.ndarray],
) -> None:
    logits, target = logits_and_target
    for metric in (Accuracy(), TopK(2), F1()):
        parts = [metric.statistics(logits[rows], target[rows]) for rows in np.split(np.arange(400), 8)]
        assert metric.value(np.concatenate(parts)) == metric.value(metric.statistics(logits, target))


def test_a_class_never_seen_nor_predicted_does_not_divide_by_zero() -> None:
    assert F1("binary").value(np.array([[0.0, 0.0]])) == 0.0
