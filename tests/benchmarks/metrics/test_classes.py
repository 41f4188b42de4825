from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, top_k_accuracy_score

from benchmarks.metrics import F1, Accuracy, Metric, TopK, confidence
from export.errors import InputError


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
        (F1("micro"), f1_score(target, predicted, average="micro")),
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


def test_macro_f1_with_labels_that_do_not_start_at_zero_equals_scikit_learns() -> None:
    generator = np.random.default_rng(2)
    rows = generator.choice([-3.0, 2.0, 40.0], size=(200, 2))
    assert F1().value(rows) == pytest.approx(f1_score(rows[:, 1], rows[:, 0], average="macro"))


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([[0.0, np.log(3.0)], [np.log(9.0), 0.0]], [0.75, 0.9]),
        ([[0.2, 0.7, 0.1], [0.0, 0.0, 1.0005]], [0.7, 1.0]),
        ([[0.2, 0.7, 0.2]], [1 / (1 + 2 * np.exp(-0.5))]),
        ([[np.log(4.0)], [-np.log(4.0)], [0.0]], [0.8, 0.8, 0.5]),
        ([[1.0]], [1 / (1 + np.exp(-1.0))]),
        ([[900.0, 0.0], [-900.0, -1800.0]], [1.0, 1.0]),
    ],
)
def test_the_confidence_is_the_probability_of_the_predicted_class(
    outputs: list[list[float]], expected: list[float]
) -> None:
    """Softmax of logits, probabilities as they are, the sigmoid of a single logit; by hand."""
    assert confidence(np.array(outputs, np.float32)) == pytest.approx(expected, rel=1e-6)


def test_every_classifying_metric_keeps_prediction_truth_and_probability_first(
    logits_and_target: tuple[np.ndarray, np.ndarray],
) -> None:
    logits, target = logits_and_target
    expected = np.exp(logits).max(axis=1) / np.exp(logits).sum(axis=1)
    for metric in (Accuracy(), TopK(3), F1()):
        rows = metric.statistics(logits, target)
        assert rows[:, 0].tolist() == logits.argmax(axis=1).tolist()
        assert rows[:, 1].tolist() == target.tolist()
        assert rows[:, 2] == pytest.approx(expected)


@pytest.mark.parametrize("metric", [Accuracy(), TopK(2), F1("micro")], ids=lambda metric: metric.name)
@pytest.mark.parametrize(
    ("outputs", "target"), [((2, 5, 7), (2, 5)), ((2, 7), (2, 7)), ((2, 7), (3,)), ((2, 7, 1, 1), (2,)), ((), ())]
)
def test_shapes_that_do_not_fit_are_refused(metric: Metric, outputs: tuple[int, ...], target: tuple[int, ...]) -> None:
    message = rf"^{metric.name}: expected logits \(batch, classes\) and a target \(batch,\).*; found outputs \(.*\) and target \("
    with pytest.raises(InputError, match=message):
        metric.statistics(np.zeros(outputs, np.float32), np.zeros(target, np.int64))


def test_a_class_a_token_is_sent_to_the_metric_for_it() -> None:
    with pytest.raises(InputError, match=r"one class a sample \(for a class a token see TokenAccuracy\); found"):
        Accuracy().statistics(np.zeros((2, 5, 7), np.float32), np.zeros((2, 5), np.int64))


@pytest.mark.parametrize("target", [np.array([1, 0]), np.array([[1.0], [0.0]])])
@pytest.mark.parametrize("outputs", [np.array([2.0, -1.0]), np.array([[2.0], [-1.0]])])
def test_one_logit_a_sample_may_stand_in_a_column(outputs: np.ndarray, target: np.ndarray) -> None:
    assert Accuracy().statistics(outputs, target)[:, :2].tolist() == [[1.0, 1.0], [0.0, 0.0]]
