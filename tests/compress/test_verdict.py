from __future__ import annotations

import re

import pytest

from benchmarks.report import Interval, Latency, Row, Score
from compress.recipe import Budget
from compress.verdict import Trial, choose, judge


def trial(scheme: str, drop: float, value: float, low: float) -> Trial:
    return Trial(scheme, drop, Interval(value, low, value + 0.1))


FP32 = trial("fp32", 0.0, 1.0, 0.99)


def test_the_fastest_scheme_inside_the_budget_ships() -> None:
    trials = [FP32, trial("a", 0.002, 2.0, 1.9), trial("b", 0.004, 2.4, 2.3), trial("c", 0.2, 3.0, 2.9)]
    assert choose(trials, "fp32", Budget(metric_drop=0.01))[0] == "b"


def test_what_the_steps_lost_is_not_held_against_the_schemes() -> None:
    final = trial("fp32", 0.07, 1.0, 0.99)
    chosen, why = choose(
        [final, trial("a", 0.073, 2.0, 1.9), trial("b", 0.09, 3.0, 2.9)], "fp32", Budget(metric_drop=0.01)
    )
    assert chosen == "a"
    assert "held against the final model in FP32, which itself loses 0.0700 there" in why


def test_a_drop_of_just_the_limit_is_inside_it() -> None:
    drop = 1.0 - 57 / 60
    assert drop > 0.05
    assert choose([FP32, trial("a", drop, 2.0, 1.9)], "fp32", Budget(metric_drop=0.05))[0] == "a"


@pytest.mark.parametrize(
    ("trials", "reason"),
    [
        ([FP32], r"no other scheme"),
        ([FP32, trial("a", 0.05, 2.0, 1.9)], r"every faster scheme lost more than 0.01 .*a, 0.0500"),
        ([FP32, trial("a", 0.0, 1.02, 0.98)], r"no accurate scheme beat FP32 beyond the measuring interval"),
    ],
)
def test_fp32_ships_where_nothing_earns_its_place(trials: list[Trial], reason: str) -> None:
    name, why = choose(trials, "fp32", Budget(metric_drop=0.01))
    assert name == "fp32"
    assert re.search(reason, why)


def row(difference: Interval, ratio: Interval, size_bytes: int) -> Row:
    return Row(
        "openvino", "original", "int8", "chosen", "measured",
        size_bytes=size_bytes,
        evaluation=Score("accuracy", "evaluation", 1000, 0.9, difference, 0.01),
        latency=(Latency(1, {}, 1, 0.001, ((0.001,),), faster_than_fp32=ratio),),
    )  # fmt: skip


REFERENCE = Row("openvino", "original", "fp32", "reference", "measured", size_bytes=100)
BUDGET = Budget(metric_drop=0.01, speedup=2.0, size_ratio=0.5)


@pytest.mark.parametrize(
    ("difference", "ratio", "size_bytes", "decision"),
    [
        (Interval(-0.005, -0.02, 0.01), Interval(2.1, 1.9, 2.2), 30, "accepted"),
        (Interval(-0.03, -0.04, -0.02), Interval(2.1, 1.9, 2.2), 30, "rejected"),
        (Interval(-0.015, -0.03, 0.001), Interval(2.1, 1.9, 2.2), 30, "inconclusive"),
        (Interval(-0.005, -0.02, 0.01), Interval(1.5, 1.4, 1.6), 30, "rejected"),
        (Interval(-0.005, -0.02, 0.01), Interval(1.95, 1.9, 2.02), 30, "inconclusive"),
        (Interval(-0.005, -0.02, 0.01), Interval(2.1, 1.9, 2.2), 51, "rejected"),
    ],
)
def test_each_line_of_the_budget_is_judged(
    difference: Interval, ratio: Interval, size_bytes: int, decision: str
) -> None:
    verdict = judge(row(difference, ratio, size_bytes), REFERENCE, BUDGET, higher_is_better=True)
    assert verdict.decision == decision
    assert len(verdict.findings) == 3


def test_a_metric_that_should_be_low_is_judged_the_other_way() -> None:
    worse = row(Interval(0.5, 0.4, 0.6), Interval(3, 3, 3), 10)
    assert judge(worse, REFERENCE, Budget(metric_drop=0.1), higher_is_better=False).decision == "rejected"
    assert judge(worse, REFERENCE, Budget(metric_drop=0.1), higher_is_better=True).decision == "accepted"
