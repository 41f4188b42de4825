from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import jaccard_score, mean_squared_error

from benchmarks.metrics import MeanIoU, MeanSquaredError
from export.errors import InputError


@pytest.mark.parametrize("shape", [(9,), (9, 1), (9, 3), (9, 1, 4, 5)])
def test_mean_squared_error_equals_scikit_learns(shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    outputs, target = generator.normal(size=(2, *shape)).astype(np.float32)
    metric, drawn = MeanSquaredError(), np.array([8, 0, 0, 3])
    rows = metric.statistics(outputs, target)
    assert rows.shape == (9, 2) and rows.dtype == np.float64
    for samples in (np.arange(9), drawn):
        expected = mean_squared_error(
            target[samples].reshape(-1).astype(float), outputs[samples].reshape(-1).astype(float)
        )
        assert metric.value(rows[samples]) == pytest.approx(expected)
    assert metric.higher_is_better is False


def test_one_output_a_sample_is_not_spread_over_all_targets() -> None:
    rows = MeanSquaredError().statistics(np.array([[1.0], [2.0]], np.float32), np.array([1.0, 4.0], np.float32))
    assert rows.tolist() == [[0.0, 1.0], [4.0, 1.0]]


@pytest.mark.parametrize(("outputs", "target"), [((2, 3), (2,)), ((2, 3), (3, 2)), ((2,), (2, 1))])
def test_errors_of_other_shapes_are_refused(outputs: tuple[int, ...], target: tuple[int, ...]) -> None:
    message = r"^mean_squared_error: expected outputs and a target of the same shape \(batch, ...\); found outputs \(2,.*\) and"
    with pytest.raises(InputError, match=message):
        MeanSquaredError().statistics(np.zeros(outputs, np.float32), np.zeros(target, np.float32))


def segmented(classes: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of 10 images in which the last two classes never occur, nor are predicted; some pixels are ignored."""
    generator = np.random.default_rng(1)
    target = generator.integers(0, classes - 2, size=(10, 6, 5))
    logits = generator.normal(size=(10, classes, 6, 5)).astype(np.float32)
    logits[:, -2:] = -9.0
    np.put_along_axis(logits, target[:, None], logits.max(axis=1, keepdims=True) + 0.3, axis=1)
    wrong = generator.random(target.shape) < 0.4
    target[wrong] = (target[wrong] + 1) % (classes - 2)
    target[generator.random(target.shape) < 0.1] = 255
    target[3] = -100
    return logits, target


@pytest.mark.parametrize("drawn", [range(10), [4, 4, 1], [2], [3, 5]])
def test_mean_iou_of_any_samples_equals_scikit_learns(drawn: list[int]) -> None:
    logits, target = segmented()
    rows = MeanIoU(7).statistics(logits, target)
    assert rows.shape == (10, 14)
    truth, predicted = target[drawn], logits.argmax(axis=1)[drawn]
    counted = (truth != 255) & (truth != -100)
    expected = jaccard_score(truth[counted], predicted[counted], average="macro")
    assert MeanIoU(7).value(rows[drawn]) == pytest.approx(expected)


def test_rows_of_mean_iou_by_hand() -> None:
    """Four pixels, three classes: one of two pixels of class 0 is found, and class 1 takes the other."""
    logits = np.eye(3, dtype=np.float32)[[[[0, 1], [1, 0]]]].transpose(0, 3, 1, 2)
    rows = MeanIoU(3).statistics(logits, np.array([[[0, 0], [1, 255]]], np.uint8))
    assert rows.tolist() == [[1.0, 1.0, 0.0, 2.0, 2.0, 0.0]]
    assert MeanIoU(3).value(rows) == 0.5


def test_where_no_pixel_counts_mean_iou_is_zero() -> None:
    assert MeanIoU(3).value(np.zeros((2, 6))) == 0.0


@pytest.mark.parametrize(
    ("outputs", "target"), [((2, 4, 3, 3), (2, 3, 3)), ((2, 5, 3, 3), (2, 6, 6)), ((2, 5), (2,)), ((2, 5, 3, 3), (2,))]
)
def test_maps_of_other_shapes_are_refused(outputs: tuple[int, ...], target: tuple[int, ...]) -> None:
    message = r"^mean_iou: expected logits \(batch, 5, height, width\) and a target \(batch, height, width\) of the same size; found"
    with pytest.raises(InputError, match=message):
        MeanIoU(5).statistics(np.zeros(outputs, np.float32), np.zeros(target, np.int64))


def test_a_class_that_the_outputs_do_not_have_is_refused() -> None:
    message = (
        r"^mean_iou: labels must be from 0 to 4 for the 5 classes of the outputs, or 255 where nothing counts; found 9$"
    )
    with pytest.raises(InputError, match=message):
        MeanIoU(5).statistics(np.zeros((1, 5, 1, 2), np.float32), np.array([[[255, 9]]]))
