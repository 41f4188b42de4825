"""BLEU and chrF against sacrebleu's own scores of a whole corpus, ROUGE against the package rouge-score, error rates against jiwer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import jiwer
import numpy as np
import pytest
import sacrebleu.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from benchmarks.metrics import BLEU, ROUGE, ChrF, ErrorRate
from benchmarks.metrics.error_rate import edit_distance
from benchmarks.metrics.text import longest_common_subsequence
from export.errors import EnvironmentFailure, InputError

WORDS = ("the", "cat", "sat", "on", "a", "mat", ".", "It", "isn't", "3.5", "Straße", "dog-food", "(big)", "ran")
PADDING = len(WORDS)


def decode(ids: Sequence[int]) -> str:
    return " ".join(WORDS[number] for number in ids if number != PADDING)


def corpus(samples: int = 30) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Generated ids as the accuracy run gives them, the numbers of their references, and the references.

    A text is its reference with some words exchanged, cut short and padded; one is empty.
    """
    generator = np.random.default_rng(7)
    wanted = [generator.integers(0, PADDING, size=generator.integers(3, 15)) for _ in range(samples)]
    ids = np.full((samples, 16), PADDING)
    for row, words in zip(ids, wanted, strict=True):
        kept = words[: generator.integers(2, 16)]
        row[: len(kept)] = np.where(generator.random(len(kept)) < 0.3, generator.integers(0, PADDING), kept)
    ids[5] = PADDING
    order = generator.permutation(samples)
    references = [decode(wanted[sample]) for sample in np.argsort(order)]
    return ids.astype(np.float32), order, tuple(references)


DRAWN: list[Sequence[int]] = [range(30), [4, 4, 9, 0], [12], [5]]


@pytest.mark.parametrize("drawn", DRAWN)
@pytest.mark.parametrize(("metric", "reference"), [(BLEU, sacrebleu.metrics.BLEU), (ChrF, sacrebleu.metrics.CHRF)])
def test_the_value_of_any_samples_is_sacrebleus_of_their_corpus(
    metric: Callable[..., BLEU | ChrF], reference: Callable[[], sacrebleu.metrics.BLEU], drawn: Sequence[int]
) -> None:
    ids, target, references = corpus()
    made = metric(references, decode)
    rows = np.concatenate([made.statistics(ids[part], target[part]) for part in np.split(np.arange(30), 3)])
    assert rows.dtype == np.float64
    texts = [decode(ids[sample].astype(int)) for sample in drawn]
    expected = reference().corpus_score(texts, [[references[target[sample]] for sample in drawn]]).score
    assert made.value(rows[drawn]) == pytest.approx(expected)


@pytest.mark.parametrize("metric", [BLEU, ChrF])
def test_the_reference_itself_scores_a_hundred(metric: Callable[..., BLEU | ChrF]) -> None:
    made = metric(("the cat sat on a mat",), decode)
    rows = made.statistics(np.array([[0, 1, 2, 3, 4, 5]]), np.array([0]))
    assert made.value(rows) == pytest.approx(100.0)


@pytest.mark.parametrize("kind", ["1", "2", "L"])
def test_rouge_equals_rouge_score(kind: str) -> None:
    ids, target, references = corpus()
    metric = ROUGE(references, decode, kind)  # type: ignore[arg-type]
    scorer = RougeScorer([metric.name], use_stemmer=False)
    expected = [
        scorer.score(references[number], decode(row.astype(int)))[metric.name].fmeasure
        for row, number in zip(ids, target, strict=True)
    ]
    rows = metric.statistics(ids, target)
    assert rows[:, 0].tolist() == pytest.approx(expected)
    assert len(set(expected)) > 10
    assert metric.value(rows[[3, 3, 8]]) == pytest.approx((2 * expected[3] + expected[8]) / 3)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_rouge_splits_any_text_as_rouge_score_does(text: str, reference: str) -> None:
    scorer = RougeScorer(["rouge1", "rougeL"], use_stemmer=False)
    expected = scorer.score(reference, text)
    for kind in ("1", "L"):
        metric = ROUGE((reference,), lambda ids: text, kind)  # type: ignore[arg-type]
        found = metric.value(metric.statistics(np.zeros((1, 1)), np.array([0])))
        assert found == pytest.approx(expected[metric.name].fmeasure)


@pytest.mark.parametrize("drawn", DRAWN)
@pytest.mark.parametrize(("of", "reference"), [("words", jiwer.wer), ("characters", jiwer.cer)])
def test_the_error_rate_of_any_samples_is_jiwers(
    of: Literal["words", "characters"], reference: Callable[[list[str], list[str]], float], drawn: Sequence[int]
) -> None:
    ids, target, references = corpus()
    metric = ErrorRate(references, decode, of)
    wanted = [references[target[sample]] for sample in drawn]
    expected = reference(wanted, [decode(ids[sample].astype(int)) for sample in drawn])
    assert metric.value(metric.statistics(ids, target)[drawn]) == pytest.approx(expected)


@given(st.lists(st.sampled_from("abcd"), max_size=12), st.lists(st.sampled_from("abcd"), max_size=12))
def test_the_edit_distance_is_that_of_the_table(one: list[str], other: list[str]) -> None:
    table = np.add.outer(np.arange(len(one) + 1), np.arange(len(other) + 1))
    for i, left in enumerate(one):
        for j, right in enumerate(other):
            table[i + 1, j + 1] = min(table[i, j] + (left != right), table[i, j + 1] + 1, table[i + 1, j] + 1)
    assert edit_distance(one, other) == table[-1, -1]


@given(st.lists(st.sampled_from("abcd"), max_size=12), st.lists(st.sampled_from("abcd"), max_size=12))
def test_the_longest_common_subsequence_is_that_of_the_table(one: list[str], other: list[str]) -> None:
    table = np.zeros((len(one) + 1, len(other) + 1), int)
    for i, left in enumerate(one):
        for j, right in enumerate(other):
            table[i + 1, j + 1] = table[i, j] + 1 if left == right else max(table[i, j + 1], table[i + 1, j])
    assert longest_common_subsequence(one, other) == table[-1, -1]


@pytest.mark.parametrize("metric", [BLEU, ChrF, ROUGE])
def test_logits_in_place_of_ids_are_refused(metric: Callable[..., BLEU | ChrF | ROUGE]) -> None:
    message = (
        r"expected generated token ids \(batch, tokens\) and a target \(batch,\), the number of each sample's reference; "
        r"found outputs \(2, 4, 9\) and target \(2,\)$"
    )
    with pytest.raises(InputError, match=message):
        metric(("a", "b"), decode).statistics(np.zeros((2, 4, 9), np.float32), np.array([0, 1]))


@pytest.mark.parametrize("number", [-1, 2])
def test_a_target_that_names_no_reference_is_refused(number: int) -> None:
    message = (
        rf"^bleu: a target is the number of a reference, from 0 on, and the metric holds 2 references; found {number}$"
    )
    with pytest.raises(InputError, match=message):
        BLEU(("a", "b"), decode).statistics(np.zeros((2, 4)), np.array([0, number]))


@pytest.mark.parametrize(("metric", "name"), [(BLEU, "bleu"), (ChrF, "chrf")])
def test_without_sacrebleu_it_says_how_to_install_it(
    metric: Callable[..., BLEU | ChrF], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.metrics.text.find_spec", lambda name: None)
    message = rf"^{name}: sacrebleu is not installed; pip install 'edge-compress\[nlp\]'$"
    with pytest.raises(EnvironmentFailure, match=message):
        metric(("a",), decode).statistics(np.zeros((1, 4)), np.array([0]))
    with pytest.raises(EnvironmentFailure, match=message):
        metric(("a",), decode).value(np.zeros((1, 18)))
