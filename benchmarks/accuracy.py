"""The metric through a compiled engine: per-sample statistics, paired with the original's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import numpy as np

from benchmarks.metrics import Metric
from benchmarks.report import Score
from benchmarks.statistics import paired_difference
from benchmarks.worker import Worker
from export.errors import InputError, QualityError
from export.progress import Track, silent
from targets import Engine

ArrayBatch = tuple[Mapping[str, np.ndarray], np.ndarray]


def statistics_of(
    engine: Engine,
    batches: Iterable[ArrayBatch],
    metric: Metric,
    *,
    threads: int = 1,
    one_by_one: bool = False,
    track: Track = silent,
    total: int | None = None,
) -> np.ndarray:
    """Run the engine over the batches, in a worker of its own.

    Args:
        one_by_one: feed single samples, for engines whose answer to a sample depends on its batch
            (dynamic quantization takes one range for the whole batch).
        total: number of batches, for the progress bar.

    Returns:
        The metric's statistics, shape (samples, k).

    Raises:
        QualityError: if an output holds NaN or infinity.
    """
    rows = []
    output = engine.outputs[0].name
    with Worker(engine, threads) as worker:
        label = f"accuracy of {engine.target} {engine.scheme}"
        for inputs, target in track(batches, label, total):
            for part, truth in singles(inputs, target) if one_by_one else [(inputs, target)]:
                answer = worker.run(part)[output].astype(np.float32)
                if not np.isfinite(answer).all():
                    bad = int(np.size(answer) - np.isfinite(answer).sum())
                    raise QualityError(
                        f"{engine.target}/{engine.scheme}: output '{output}' holds {bad} NaN or infinite values of {answer.size}"
                    )
                rows.append(metric.statistics(answer, truth))
    return np.concatenate(rows)


def singles(inputs: Mapping[str, np.ndarray], target: np.ndarray) -> Iterator[ArrayBatch]:
    """The samples of a batch, each as a batch of one."""
    for index in range(len(target)):
        yield {name: array[index : index + 1] for name, array in inputs.items()}, target[index : index + 1]


def score(
    metric: Metric, rows: np.ndarray, original: np.ndarray | None, split: Literal["validation", "evaluation"]
) -> Score:
    """The metric of `rows` and, where `original` is given, the paired difference to it.

    Raises:
        InputError: if the two were not measured on the same samples.
    """
    if original is None:
        return Score(metric.name, split, len(rows), metric.value(rows))
    if len(rows) != len(original) or (metric.classifies and not np.array_equal(rows[:, 1], original[:, 1])):
        raise InputError(
            f"the {split} batches gave other samples on a second pass ({len(original)}, then {len(rows)}); "
            "they must come in the same order each time: no shuffling, no random augmentation"
        )
    changed = float(np.mean(rows[:, 0] != original[:, 0])) if metric.classifies else None
    return Score(
        metric.name, split, len(rows), metric.value(rows), paired_difference(metric.value, rows, original), changed
    )
