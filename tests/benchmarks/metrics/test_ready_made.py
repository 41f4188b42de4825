"""Metrics by the name in a report: what compares two runs knows no more of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import compress
from benchmarks.metrics import (
    BLEU,
    F1,
    ROUGE,
    Accuracy,
    ChrF,
    EntityF1,
    ErrorRate,
    MeanIoU,
    MeanSquaredError,
    Metric,
    Perplexity,
    TokenAccuracy,
    TopK,
    ready_made,
)
from export.errors import InputError

TAGS = ("O", "B-PER", "I-PER")
REFERENCES = ("the cat sat on the mat", "it ran")


def decode(ids: Sequence[int]) -> str:
    return " ".join(("the", "cat", "sat", "on", "mat", "it", "ran")[number] for number in ids)


def logits(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def labels(classes: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, classes, size=shape)


OF_CLASSES = [(metric, logits(9, 7), labels(7, 9)) for metric in (Accuracy(), TopK(5), F1(), F1("binary"), F1("micro"))]
OF_OTHERS = [
    (TokenAccuracy(), logits(9, 4, 3), labels(3, 9, 4)),
    (Perplexity(), logits(9, 4, 3), labels(3, 9, 4)),
    (MeanSquaredError(), logits(9, 2), logits(9, 2) + 1),
]
OF_MORE_THAN_A_NAME = [
    (EntityF1(TAGS), logits(9, 4, 3), labels(3, 9, 4)),
    (MeanIoU(3), logits(9, 3, 4, 4), labels(3, 9, 4, 4)),
    *(
        (metric, labels(7, 9, 6), labels(2, 9))
        for metric in (
            BLEU(REFERENCES, decode),
            ChrF(REFERENCES, decode),
            *(ROUGE(REFERENCES, decode, kind) for kind in ("1", "2", "L")),  # type: ignore[arg-type]
            *(ErrorRate(REFERENCES, decode, of) for of in ("words", "characters")),  # type: ignore[arg-type]
        )
    ),
]
ALL = [*OF_CLASSES, *OF_OTHERS, *OF_MORE_THAN_A_NAME]


def name_of(value: object) -> str | None:
    return getattr(value, "name", "")


@pytest.mark.parametrize(("metric", "outputs", "target"), ALL, ids=name_of)
def test_a_metric_of_that_name_gives_kept_rows_the_same_value(
    metric: Metric, outputs: np.ndarray, target: np.ndarray
) -> None:
    rows, found = metric.statistics(outputs, target), ready_made(metric.name)
    assert found is not None
    assert (found.name, found.higher_is_better, found.classifies) == (
        metric.name,
        metric.higher_is_better,
        metric.classifies,
    )
    assert found.value(rows) == metric.value(rows)
    assert rows.dtype == np.float64 and rows.ndim == 2 and len(rows) == 9
    assert np.isfinite(metric.value(rows[[0, 0, 0]]))


@pytest.mark.parametrize(("metric", "outputs", "target"), [*OF_CLASSES, *OF_OTHERS], ids=name_of)
def test_where_the_name_tells_all_it_is_the_metric_itself(
    metric: Metric, outputs: np.ndarray, target: np.ndarray
) -> None:
    assert ready_made(metric.name) == metric


@pytest.mark.parametrize(("metric", "outputs", "target"), OF_MORE_THAN_A_NAME, ids=name_of)
def test_where_it_does_not_nothing_is_measured_with_what_it_gives(
    metric: Metric, outputs: np.ndarray, target: np.ndarray
) -> None:
    found = ready_made(metric.name)
    assert found is not None
    with pytest.raises(InputError, match=rf"^{metric.name}: "):
        found.statistics(outputs, target)


def test_a_users_own_metric_is_none_and_so_is_one_whose_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ready_made("mean_square") is None
    monkeypatch.setattr("benchmarks.metrics.text.find_spec", lambda name: None)
    assert ready_made("bleu") is None and ready_made("chrf") is None
    assert ready_made("rougeL") is not None


def test_all_of_them_are_to_be_had_from_compress() -> None:
    assert {type(metric) for metric, *_ in ALL} <= {getattr(compress, name) for name in compress.__all__}
