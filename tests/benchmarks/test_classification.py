"""Statistics of classifiers, against scipy, scikit-learn and figures worked out by hand or taken from papers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.accuracy import score
from benchmarks.classification import (
    broken_classes,
    calibration_error,
    class_scores,
    constant_class,
    discordant_p,
    mcnemar,
    paired_share_difference,
    worst_class,
)
from benchmarks.metrics import Accuracy
from benchmarks.report import ClassScore


def rows(predicted: list[int], truth: list[int]) -> np.ndarray:
    return np.array([predicted, truth], dtype=float).T


@pytest.mark.parametrize(
    ("lost", "gained", "expected"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 2 / 32), (0, 5, 2 / 32), (4, 1, 12 / 32), (3, 3, 1.0), (7, 0, 2 / 128)],
)
def test_the_p_value_of_few_pairs_is_counted_by_hand(lost: int, gained: int, expected: float) -> None:
    assert discordant_p(lost, gained) == pytest.approx(expected)


@pytest.mark.parametrize(("lost", "gained"), [(12, 3), (3, 12), (60, 41), (300, 300), (5200, 4800), (10_000, 9_000)])
def test_the_p_value_of_many_pairs_is_scipys(lost: int, gained: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    assert discordant_p(lost, gained) == pytest.approx(stats.binomtest(lost, lost + gained, 0.5).pvalue, rel=1e-9)


def test_a_p_value_too_small_for_a_float_is_zero() -> None:
    assert discordant_p(10_000, 0) == 0.0
    assert discordant_p(900, 0) == pytest.approx(2 * math.ldexp(1.0, -900))


def test_mcnemar_counts_what_was_lost_and_gained() -> None:
    found = mcnemar(np.array([1, 1, 1, 0, 0], bool), np.array([1, 0, 0, 1, 0], bool))
    assert (found.lost, found.gained, found.p_value) == (2, 1, 1.0)


def test_classes_are_scored_by_their_true_samples() -> None:
    truth = [0] * 4 + [2] * 2
    first, second = class_scores(rows([0, 0, 0, 1, 2, 2], truth), rows([0, 2, 2, 0, 2, 0], truth), ("cat", "dog"))
    assert (first.label, first.samples, first.before, first.after, first.p_value) == ("cat", 4, 0.75, 0.5, 1.0)
    assert (second.label, second.samples, second.before, second.after) == ("2", 2, 1.0, 0.5)
    assert first.difference is not None
    assert first.difference.value == -0.25
    assert first.difference.low < -0.25 < first.difference.high


def test_the_paired_interval_is_that_of_the_literature() -> None:
    """Approval of the prime minister, 1,600 voters asked twice: 794 and 570 kept their view, 150 and 86 changed it.

    Agresti, Categorical Data Analysis, section 10.1: a difference of 0.04 with standard error 0.0095. On so large a
    sample every method for pairs comes to 1.96 of those.
    """
    found = paired_share_difference(both=794, lost=150, gained=86, samples=1600)
    half = 1.96 * math.sqrt(150 + 86 - 64**2 / 1600) / 1600
    assert half == pytest.approx(1.96 * 0.0095, rel=0.01)
    assert (found.value, found.low, found.high) == pytest.approx((-0.04, -0.04 - half, -0.04 + half), abs=0.0002)


def test_the_paired_interval_covers_the_true_difference_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(150, [0.85, 0.06, 0.03, 0.06], size=1000)
    intervals = [paired_share_difference(both, lost, gained, 150) for both, lost, gained, _ in drawn]
    assert np.mean([found.low <= -0.03 <= found.high for found in intervals]) == pytest.approx(0.95, abs=0.025)


def test_the_worst_class_lost_the_most() -> None:
    classes = [ClassScore("a", 10, 0.9, 0.8, 1.0), ClassScore("b", 10, 0.9, 0.5, 0.1), ClassScore("c", 10, 0.2, 0.3, 1)]
    found = worst_class(classes)
    assert found is not None
    assert found.label == "b"
    assert worst_class([]) is None


@pytest.mark.parametrize(
    ("broken", "others", "found"),
    [
        (ClassScore("cat", 1000, 0.9, 0.03, 1e-90), 9, ["cat"]),
        (ClassScore("cat", 1000, 0.9, 0.46, 1e-90), 9, []),  # more than half is left
        (ClassScore("cat", 8, 0.875, 0.0, 2 / 128), 0, []),  # chance does this to one class in 64
        (ClassScore("cat", 9, 1.0, 0.0, 2 / 512), 0, ["cat"]),
        (ClassScore("cat", 9, 1.0, 0.0, 2 / 512), 9, []),  # and to one of ten classes often enough
    ],
)
def test_a_class_is_broken_when_half_is_lost_beyond_chance(broken: ClassScore, others: int, found: list[str]) -> None:
    classes = [broken, *(ClassScore(str(number), 100, 0.9, 0.9, 1.0) for number in range(others))]
    assert [each.label for each in broken_classes(classes)] == found


def test_holm_gives_the_second_class_a_milder_level() -> None:
    """0.01 / 2 for the smallest p-value, then 0.01 / 1: plain Bonferroni would miss the second."""
    first, second = ClassScore("a", 20, 1.0, 0.0, 1e-6), ClassScore("b", 20, 0.5, 0.0, 0.008)
    assert broken_classes([second, first]) == (first, second)
    assert broken_classes([second, ClassScore("c", 20, 1.0, 1.0, 1.0)]) == ()


def test_the_calibration_error_by_hand() -> None:
    """Two bins of 15: (0.6, 0.667] with 2 of 4 right at 0.65, and (0.933, 1] with 5 of 6 right at 0.95."""
    right = np.array([1, 1, 0, 0] + [1] * 5 + [0], bool)
    probability = np.array([0.65] * 4 + [0.95] * 6)
    expected = 0.4 * abs(2 / 4 - 0.65) + 0.6 * abs(5 / 6 - 0.95)
    assert calibration_error(right, probability) == pytest.approx(expected)


def test_probabilities_at_both_ends_have_a_bin() -> None:
    assert calibration_error(np.array([True, False]), np.array([1.0, 0.0])) == 0.0
    assert calibration_error(np.array([False, True]), np.array([1.0, 0.0])) == 1.0


@pytest.mark.parametrize(
    ("before", "after", "constant"),
    [
        ([0, 1] * 8, [1] * 16, 1.0),
        ([0, 1] * 8, [1] * 15 + [0], None),
        ([1] * 16, [1] * 16, None),
        ([1] * 15 + [0], [1] * 16, None),  # a rare class that is no longer given proves nothing
        ([1] * 9 + [0] * 7, [1] * 16, None),  # 2 / 128 is above 0.01
    ],
)
def test_a_constant_answer_is_one_where_the_original_tells_samples_apart(
    before: list[int], after: list[int], constant: float | None
) -> None:
    assert constant_class(np.array(before), np.array(after)) == constant


def test_the_score_holds_all_of_it_on_evaluation_data() -> None:
    generator = np.random.default_rng(0)
    target = generator.integers(0, 3, 300)
    logits = 4.0 * np.eye(3)[target] + generator.normal(size=(300, 3))
    original = Accuracy().statistics(logits, target)
    now = Accuracy().statistics(np.zeros((300, 3)), target)
    found = score(Accuracy(), now, original, "evaluation", ("ant", "bee", "cow"))
    assert found.constant == "ant"
    assert [each.label for each in found.classes] == ["ant", "bee", "cow"]
    assert found.mcnemar is not None
    assert found.mcnemar.lost > 150
    assert found.calibration_error == pytest.approx(abs(np.mean(target == 0) - 1 / 3))
    validation = score(Accuracy(), now, original, "validation")
    assert (validation.classes, validation.constant) == ((), "0")


def test_the_original_is_compared_with_nothing() -> None:
    alone = score(Accuracy(), np.array([[1.0, 1.0, 0.9], [0.0, 1.0, 0.9]]), None, "evaluation")
    assert (alone.mcnemar, alone.classes, alone.constant, alone.changed) == (None, (), None, None)
    assert alone.calibration_error == pytest.approx(0.4)


def test_a_users_metric_without_probabilities_has_no_calibration_error() -> None:
    original = np.array([[1.0, 1.0], [0.0, 0.0]])
    found = score(Accuracy(), original, original, "evaluation")
    assert found.calibration_error is None
    assert found.mcnemar is not None
