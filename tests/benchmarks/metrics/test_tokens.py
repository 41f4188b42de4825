from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score
from torch.nn import functional

from benchmarks.metrics import IGNORED, Perplexity, TokenAccuracy
from export.errors import InputError

SPREAD = [1.0, 30.0, 20_000.0]
"""Of the logits; exp(20,000) is no float."""


def answers(
    spread: float = 1.0, samples: int = 12, length: int = 9, vocabulary: int = 23
) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels, about a third of which are ignored; those of the last sample all are."""
    generator = np.random.default_rng(3)
    logits = (spread * generator.normal(size=(samples, length, vocabulary))).astype(np.float32)
    labels = generator.integers(0, vocabulary, size=(samples, length))
    labels[generator.random(labels.shape) < 0.3] = IGNORED
    labels[-1] = IGNORED
    return logits, labels


def test_accuracy_of_the_tokens_that_count_equals_scikit_learns() -> None:
    logits, labels = answers()
    labels[:, 0] = logits[:, 0].argmax(axis=1)
    counted = labels != -100
    rows = TokenAccuracy().statistics(logits, labels)
    assert rows.dtype == np.float64
    assert TokenAccuracy().value(rows) == pytest.approx(accuracy_score(labels[counted], logits.argmax(axis=2)[counted]))


def test_rows_of_accuracy_by_hand() -> None:
    """Two classes: the second token of the first sample is wrong, its third is ignored."""
    logits = np.array([[[2.0, 1.0], [2.0, 1.0], [2.0, 1.0]], [[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]], np.float32)
    labels = np.array([[0, 1, -100], [1, 1, 1]])
    assert TokenAccuracy().statistics(logits, labels).tolist() == [[1.0, 2.0], [3.0, 3.0]]


@pytest.mark.parametrize("spread", SPREAD)
def test_perplexity_is_the_exponential_of_torchs_cross_entropy(spread: float) -> None:
    logits, labels = answers(spread)
    flat = torch.from_numpy(logits).double().flatten(0, 1)
    expected = functional.cross_entropy(flat, torch.from_numpy(labels).flatten(), ignore_index=-100, reduction="sum")
    rows = Perplexity().statistics(logits, labels)
    tokens = int((labels != -100).sum())
    assert rows.sum(axis=0).tolist() == pytest.approx([float(expected), tokens], rel=1e-7)
    assert Perplexity().value(rows) == pytest.approx(math.exp(min(float(expected) / tokens, 700)), rel=1e-5)


def test_perplexity_of_logits_that_know_nothing_is_the_size_of_the_vocabulary() -> None:
    rows = Perplexity().statistics(np.full((2, 3, 50), 7.0, np.float32), np.zeros((2, 3), np.int64))
    assert Perplexity().value(rows) == pytest.approx(50.0)
    assert Perplexity().higher_is_better is False


def test_perplexity_is_no_infinity() -> None:
    """An engine that is broken loses thousands of nats a token; a report as JSON has no infinity."""
    assert Perplexity().value(np.array([[9_000.0, 2.0]])) == pytest.approx(1.0142e304, rel=1e-4)


def test_half_precision_is_not_added_up_in_half_precision() -> None:
    logits, labels = answers()
    exact = Perplexity().statistics(logits.astype(np.float16).astype(np.float64), labels)
    assert Perplexity().statistics(logits.astype(np.float16), labels) == pytest.approx(exact, rel=1e-5)


def test_the_logits_are_not_copied_as_a_whole_and_stay_as_they_are() -> None:
    logits, labels = answers(samples=8, length=16, vocabulary=8_000)
    before = logits.copy()
    tracemalloc.start()
    Perplexity().statistics(logits, labels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < logits.nbytes / 4, "a copy of one sample's logits at a time is an eighth"
    assert np.array_equal(before, logits)


@pytest.mark.parametrize("metric", [TokenAccuracy(), Perplexity()], ids=lambda metric: metric.name)
def test_the_value_of_a_resample_is_that_of_its_samples(metric: TokenAccuracy | Perplexity) -> None:
    logits, labels = answers()
    drawn = np.array([3, 3, 0, 11, 7])
    batches = [metric.statistics(logits[part], labels[part]) for part in np.split(np.arange(12), 4)]
    assert metric.value(np.concatenate(batches)[drawn]) == metric.value(metric.statistics(logits[drawn], labels[drawn]))


def test_a_resample_in_which_nothing_counts_has_a_value() -> None:
    assert TokenAccuracy().value(np.zeros((3, 2))) == 0.0
    assert Perplexity().value(np.zeros((3, 2))) == 1.0


@pytest.mark.parametrize("metric", [TokenAccuracy(), Perplexity()], ids=lambda metric: metric.name)
@pytest.mark.parametrize("shapes", [((2, 5), (2,)), ((2, 4, 7), (2, 5)), ((2, 4, 7), (2,)), ((2, 7, 4), (2, 4))])
def test_shapes_that_do_not_fit_are_refused(
    metric: TokenAccuracy | Perplexity, shapes: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    expected = (
        rf"^{metric.name}: expected logits \(batch, length, classes\) and a target \(batch, length\), one label a token; "
        rf"found outputs \({shapes[0][0]}, .*\) and target \({shapes[1][0]},.*\)$"
    )
    with pytest.raises(InputError, match=expected):
        metric.statistics(np.zeros(shapes[0], np.float32), np.zeros(shapes[1], np.int64))


@pytest.mark.parametrize("label", [7, -1])
def test_a_label_that_no_logit_has_is_refused(label: int) -> None:
    labels = np.array([[0, label, -100]])
    message = (
        rf"^perplexity: labels must be from 0 to 6 for the 7 classes of the outputs, or -100 where .*; found {label}$"
    )
    with pytest.raises(InputError, match=message):
        Perplexity().statistics(np.zeros((1, 3, 7), np.float32), labels)
