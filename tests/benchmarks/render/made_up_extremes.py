"""Made-up reports that strain a page: an unstable machine, broken engines, crowds, very long names."""

from __future__ import annotations

import base64
from dataclasses import replace

import numpy as np

from benchmarks.measurements import Interval
from benchmarks.report import ClassScore, Flip, Report, Row
from benchmarks.stability import unstable
from tests.benchmarks.render.made_up import control, made_up_report, with_row

SHIPS = 5
"""Index of the row that ships on OpenVINO."""
LONG = "self-distilled-from-a-much-larger-teacher"
LONG_SCHEME = "int8_static_per_channel_symmetric_activations_nncf"


def unstable_report() -> Report:
    """The A/A interval of OpenVINO misses 1; that of the other target holds it."""
    report = made_up_report()
    rows = [row for row in report.rows if (row.target, row.role) != ("openvino", "control")]
    row = control("openvino", 0.00121, Interval(1.062, 1.031, 1.094))
    undecided = f"undecided: {unstable(row, report.half_width_limit)}"
    verdict = replace(report.verdicts[0], decision="inconclusive", findings=(undecided,))
    return replace(report, rows=(*rows, row), verdicts=(verdict, *report.verdicts[1:]))


def broken_report() -> Report:
    """What ships remembers its answers, and gives every sample one class."""
    report = made_up_report()
    evaluation = report.rows[SHIPS].evaluation
    assert evaluation is not None
    broken = replace(evaluation.classes[6], after=0.0, p_value=1e-9)
    classes = (*evaluation.classes[:6], broken, *evaluation.classes[7:])
    return with_row(
        report,
        SHIPS,
        findings=("answers were remembered: 40 inputs seen before took 2 % of the time of new ones",),
        evaluation=replace(evaluation, classes=classes, constant="6"),
    )


def crowded_report() -> Report:
    """Long names everywhere, 120 classes, 60 large images, many schemes."""
    report = made_up_report()
    rows = [_renamed(row) for row in report.rows]
    tried = next(row for row in report.rows if row.role == "tried" and row.target == "openvino")
    rows += [replace(tried, scheme=f"{LONG_SCHEME}_{number}") for number in range(6)]
    stages = tuple(replace(stage, name=LONG if stage.name == "distill" else stage.name) for stage in report.stages)
    gallery = tuple(_large_flip(sample) for sample in range(60))
    return replace(report, name=f"{LONG}-{LONG}", rows=tuple(rows), stages=stages, gallery=gallery)


def _renamed(row: Row) -> Row:
    stage = LONG if row.stage == "distill" else row.stage
    scheme = LONG_SCHEME if row.scheme == "int8" else row.scheme
    if row.role != "chosen" or row.evaluation is None:
        return replace(row, stage=stage, scheme=scheme)
    classes = tuple(
        ClassScore(f"{number}: a breed of dog with a long name", 50, 0.9, 0.9 - 0.002 * (number % 41), 0.3)
        for number in range(120)
    )
    return replace(row, stage=stage, scheme=scheme, evaluation=replace(row.evaluation, classes=classes))


def _large_flip(sample: int) -> Flip:
    image = np.random.default_rng(sample).integers(0, 256, (224, 224, 3), np.uint8)
    pixels = base64.b64encode(image.tobytes()).decode()
    names = ("a breed of dog with a long name", "another breed of dog with a long name")
    return Flip("openvino", sample, names[0], names[0], names[1], 224, 224, 3, pixels)
