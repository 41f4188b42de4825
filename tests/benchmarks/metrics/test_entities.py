from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score
from seqeval.metrics.sequence_labeling import get_entities

from benchmarks.metrics import EntityF1
from benchmarks.metrics.entities import entities
from export.errors import InputError

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "I-ART-WORK")
"""Without a B- of the last type: then an I- opens it."""


def logits_of(tags: np.ndarray) -> np.ndarray:
    return np.eye(len(LABELS), dtype=np.float32)[tags]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(LABELS), max_size=12))
def test_entities_are_read_as_seqeval_reads_them(tags: list[str]) -> None:
    assert entities(tags) == set(get_entities(tags))


@pytest.mark.parametrize("seed", range(20))
def test_the_value_of_any_samples_equals_seqevals(seed: int) -> None:
    generator = np.random.default_rng(seed)
    predicted, actual = generator.integers(0, len(LABELS), size=(2, 15, 8))
    right = generator.random(actual.shape) < 0.7
    predicted[right] = actual[right]
    ignored = generator.random(actual.shape) < 0.2
    ignored[0] = True
    rows = EntityF1(LABELS).statistics(logits_of(predicted), np.where(ignored, -100, actual))
    drawn = generator.integers(0, 15, size=15)
    guesses, truths = (
        [[LABELS[tag] for tag in tags[~ignored[sample]]] for sample in drawn for tags in [either[sample]]]
        for either in (predicted, actual)
    )
    assert EntityF1(LABELS).value(rows[drawn]) == pytest.approx(f1_score(truths, guesses))


def test_type_and_both_borders_must_be_right() -> None:
    """Of three entities one is found; one is a token short, one of another type, and there is one too many."""
    actual = ["B-PER", "I-PER", "O", "B-LOC", "I-LOC", "O", "B-LOC", "O", "O"]
    predicted = ["B-PER", "I-PER", "O", "B-LOC", "O", "O", "B-PER", "O", "B-LOC"]
    tags = np.array([[LABELS.index(tag) for tag in either] for either in (predicted, actual)])
    rows = EntityF1(LABELS).statistics(logits_of(tags[:1]), tags[1:])
    assert rows.tolist() == [[1.0, 4.0, 3.0]]
    assert EntityF1(LABELS).value(rows) == pytest.approx(2 / 7)


def test_sub_words_do_not_part_an_entity() -> None:
    """The second token is the tail of a word, whatever is predicted there."""
    predicted = np.array([[1, 0, 2]])
    assert EntityF1(LABELS).statistics(logits_of(predicted), np.array([[1, -100, 2]])).tolist() == [[1.0, 1.0, 1.0]]


def test_without_entities_the_value_is_zero_as_seqevals() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # seqeval says that it divides by zero
        expected = f1_score([["O"]], [["O"]])
    assert EntityF1(LABELS).value(np.zeros((2, 3))) == expected == 0.0


def test_other_schemes_than_bio_are_refused() -> None:
    with pytest.raises(InputError, match=r"^entity_f1: labels must be BIO tags \('O', 'B-TYPE', .*\), found 'S-PER'$"):
        EntityF1(("O", "B-PER", "S-PER"))


def test_logits_of_another_number_of_tags_are_refused() -> None:
    message = r"^entity_f1: expected logits \(batch, length, 6\), one for each of the metric's labels; found outputs \(1, 2, 5\)"
    with pytest.raises(InputError, match=message):
        EntityF1(LABELS).statistics(np.zeros((1, 2, 5), np.float32), np.zeros((1, 2), np.int64))
    with pytest.raises(InputError, match=r"expected logits \(batch, length, classes\) .* found outputs \(2, 5\)"):
        EntityF1(LABELS).statistics(np.zeros((2, 5), np.float32), np.zeros((2,), np.int64))
