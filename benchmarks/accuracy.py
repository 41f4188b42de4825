"""The metric through a compiled engine: per-sample statistics, paired with the original's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from benchmarks.answers import Answers, answers_from
from benchmarks.classification import calibration_error, class_name, class_scores, constant_class, mcnemar
from benchmarks.metrics import Metric
from benchmarks.report import Score
from benchmarks.statistics import paired_difference
from benchmarks.worker import Worker
from export.errors import InputError, QualityError
from export.progress import Track, silent
from targets import Engine

ArrayBatch = tuple[Mapping[str, np.ndarray], np.ndarray]

PROBABILITY = 2
"""Column of a classifying metric's statistics that holds the probability of the predicted class, where it keeps one."""


@dataclass(frozen=True)
class AccuracyRun:
    """The metric's statistics, shape (samples, k), and the same process's answers to the inputs of the timing."""

    rows: np.ndarray
    answers: Mapping[int, Answers]


def statistics_of(
    engine: Engine,
    batches: Iterable[ArrayBatch],
    metric: Metric,
    *,
    threads: int = 1,
    one_by_one: bool = False,
    pools: Mapping[int, Sequence[Mapping[str, np.ndarray]]] | None = None,
    track: Track = silent,
    total: int | None = None,
) -> AccuracyRun:
    """Run the engine over the batches, in a worker of its own.

    Args:
        one_by_one: feed single samples, for engines whose answer to a sample depends on its batch
            (dynamic quantization takes one range for the whole batch).
        pools: the inputs that the engine is timed on, by batch size; answered after the batches.
        total: number of batches, for the progress bar.

    Raises:
        QualityError: if an output holds NaN or infinity.
    """
    rows = []
    output, fixed = engine.outputs[0].name, fixed_batch(engine)
    with Worker(engine, threads) as worker:
        label = f"accuracy of {engine.target} {engine.scheme}"
        for inputs, target in track(batches, label, total):
            for part, truth in parts(inputs, target, 1 if one_by_one else fixed):
                answer = worker.run(filled(part, fixed))[output][: len(truth)].astype(np.float32, copy=False)
                if not np.isfinite(answer).all():
                    bad = int(np.size(answer) - np.isfinite(answer).sum())
                    raise QualityError(
                        f"{engine.target}/{engine.scheme}: output '{output}' holds {bad} NaN or infinite values of {answer.size}"
                    )
                rows.append(metric.statistics(answer, truth))
        answers = {size: answers_from(worker, pool) for size, pool in (pools or {}).items()}
    return AccuracyRun(np.concatenate(rows), answers)


def fixed_batch(engine: Engine) -> int | None:
    """The only batch size that an engine takes; None where it takes any."""
    first = engine.inputs[0].shape[:1]
    return first[0] if first and isinstance(first[0], int) else None


def parts(inputs: Mapping[str, np.ndarray], target: np.ndarray, size: int | None) -> Iterator[ArrayBatch]:
    """A batch in batches of `size`, the last one smaller where it does not come out even; whole with None."""
    step = size or len(target)
    for start in range(0, len(target), step):
        yield {name: array[start : start + step] for name, array in inputs.items()}, target[start : start + step]


def filled(inputs: Mapping[str, np.ndarray], size: int | None) -> dict[str, np.ndarray]:
    """At least `size` samples: the last one again where there are fewer. The answers to those do not count."""
    lacking = {name: (size or 0) - len(array) for name, array in inputs.items()}
    return {
        name: np.concatenate([array, array[-1:].repeat(lacking[name], axis=0)]) if lacking[name] > 0 else array
        for name, array in inputs.items()
    }


def score(
    metric: Metric,
    rows: np.ndarray,
    original: np.ndarray | None,
    split: Literal["validation", "evaluation"],
    class_names: Sequence[str] = (),
) -> Score:
    """The metric of `rows` and, where `original` is given, the paired difference to it.

    Args:
        rows, original: the metric's statistics, shape (samples, k), of the same samples in the same order.
        class_names: of the classes 0, 1, ...; without, they go by their numbers.

    Raises:
        InputError: if the two were not measured on the same samples.
    """
    scored = Score(metric.name, split, len(rows), metric.value(rows))
    if metric.classifies and rows.shape[1] > PROBABILITY:
        scored = replace(scored, calibration_error=calibration_error(rows[:, 0] == rows[:, 1], rows[:, PROBABILITY]))
    if original is None:
        return scored
    if len(rows) != len(original) or (metric.classifies and not np.array_equal(rows[:, 1], original[:, 1])):
        raise InputError(
            f"the {split} batches gave other samples on a second pass ({len(original)}, then {len(rows)}); "
            "they must come in the same order each time: no shuffling, no random augmentation"
        )
    scored = replace(scored, difference=paired_difference(metric.value, rows, original))
    return _classified(scored, rows, original, class_names) if metric.classifies else scored


def _classified(scored: Score, rows: np.ndarray, original: np.ndarray, class_names: Sequence[str]) -> Score:
    """With what the rows of a classifier tell besides the metric."""
    constant = constant_class(original[:, 0], rows[:, 0])
    return replace(
        scored,
        changed=float(np.mean(rows[:, 0] != original[:, 0])),
        mcnemar=mcnemar(original[:, 0] == original[:, 1], rows[:, 0] == rows[:, 1]),
        classes=class_scores(original, rows, class_names) if scored.split == "evaluation" else (),
        constant=None if constant is None else class_name(constant, class_names),
    )
