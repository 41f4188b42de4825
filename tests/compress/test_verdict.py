from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.measurements import Interval, Latency
from benchmarks.report import ClassScore, Row, Score, Verdict
from compress.deploy.verdict import judge
from compress.recipe_settings import Budget

SAME = Interval(0.0, 0.0, 0.0)
FASTER = Interval(2.5, 2.4, 2.6)


def row(
    difference: Interval = SAME,
    ratio: Interval = FASTER,
    size_bytes: int = 30,
    **score_fields: Any,
) -> Row:
    score = Score("accuracy", "evaluation", 1000, 0.9, difference, 0.01)
    return Row(
        "openvino", "original", "int8", "chosen", "measured",
        size_bytes=size_bytes,
        evaluation=replace(score, **score_fields),
        latency=(Latency(1, {}, 1, 0.001, ((0.001,),) * 5, faster_than_fp32=ratio, measured_s=10.0),),
    )  # fmt: skip


REFERENCE = Row("openvino", "original", "fp32", "reference", "measured", size_bytes=100)
BUDGET = Budget(metric_drop=0.01, speedup=2.0, size_ratio=0.5)


def judged(
    chosen: Row, budget: Budget = BUDGET, control: Interval | None = None, higher_is_better: bool = True
) -> Verdict:
    beside = None if control is None else replace(row(ratio=control), role="control")
    return judge(chosen, REFERENCE, beside, budget, higher_is_better, half_width_limit=0.05)


@pytest.mark.parametrize(
    ("difference", "decision"),
    [
        (Interval(-0.005, -0.009, 0.001), "accepted"),
        (Interval(-0.005, -0.01, 0.001), "accepted"),
        (Interval(-0.005, -0.02, 0.01), "inconclusive"),
        (Interval(-0.015, -0.03, 0.001), "inconclusive"),
        (Interval(-0.015, -0.03, -0.01), "inconclusive"),
        (Interval(-0.03, -0.04, -0.02), "rejected"),
    ],
)
def test_the_metric_is_decided_on_its_interval(difference: Interval, decision: str) -> None:
    assert judged(row(difference)).decision == decision


@pytest.mark.parametrize(
    ("ratio", "decision"),
    [
        (Interval(2.1, 2.0, 2.2), "accepted"),
        (Interval(2.1, 1.9, 2.2), "inconclusive"),
        (Interval(1.95, 1.9, 2.02), "inconclusive"),
        (Interval(1.5, 1.4, 1.6), "rejected"),
    ],
)
def test_the_speed_is_decided_on_its_interval(ratio: Interval, decision: str) -> None:
    assert judged(row(ratio=ratio)).decision == decision


@pytest.mark.parametrize(("size_bytes", "decision"), [(50, "accepted"), (51, "rejected")])
def test_the_size_is_exact(size_bytes: int, decision: str) -> None:
    assert judged(row(size_bytes=size_bytes)).decision == decision


def test_no_drop_allowed_and_none_found_is_accepted() -> None:
    assert judged(row(SAME), Budget(metric_drop=0.0)).decision == "accepted"
    assert judged(row(Interval(0.0, -0.001, 0.001)), Budget(metric_drop=0.0)).decision == "inconclusive"


def test_a_metric_that_should_be_low_is_judged_the_other_way() -> None:
    worse = row(Interval(0.5, 0.4, 0.6))
    assert judged(worse, Budget(metric_drop=0.1), higher_is_better=False).decision == "rejected"
    assert judged(worse, Budget(metric_drop=0.1), higher_is_better=True).decision == "accepted"


def test_a_metric_that_is_no_share_is_told_in_its_own_unit() -> None:
    worse = row(Interval(0.31, 0.25, 0.37), metric="perplexity", value=12.66)
    assert judged(worse, Budget(metric_drop=0.5), higher_is_better=False).findings == (
        "kept: perplexity changes by +0.31 [+0.25, +0.37], a rise of 0.5 allowed, on 1,000 evaluation samples",
    )
    worse = row(Interval(-0.31, -0.40, -0.22), metric="bleu", value=31.11)
    assert judged(worse, Budget(metric_drop=0.2)).findings == (
        "missed: bleu changes by −0.31 [−0.40, −0.22], a loss of 0.2 allowed, on 1,000 evaluation samples",
    )


@pytest.mark.parametrize(
    ("budget", "state", "limit"),
    [
        (Budget(metric_drop_percent=3), "kept", "a rise of 0.3705 (3 % of the original's 12.35)"),
        (Budget(metric_drop_percent=2), "missed", "a rise of 0.247 (2 % of the original's 12.35)"),
        (Budget(metric_drop=0.2, metric_drop_percent=3), "missed", "a rise of 0.2"),
        (Budget(metric_drop=0.5, metric_drop_percent=2), "missed", "a rise of 0.247 (2 % of the original's 12.35)"),
    ],
)
def test_a_limit_in_percent_is_that_share_of_the_originals_value(budget: Budget, state: str, limit: str) -> None:
    """12.66 is 0.31 above the original's 12.35; of two limits the stricter counts."""
    worse = row(Interval(0.31, 0.26, 0.36), metric="perplexity", value=12.66)
    assert judged(worse, budget, higher_is_better=False).findings == (
        f"{state}: perplexity changes by +0.31 [+0.26, +0.36], {limit} allowed, on 1,000 evaluation samples",
    )


def test_a_limit_in_percent_of_a_share_is_told_in_points() -> None:
    """2 % of 80 % are 1.6 points."""
    worse = row(Interval(-0.01, -0.012, -0.008), value=0.79)
    assert judged(worse, Budget(metric_drop_percent=2.0)).findings == (
        "kept: accuracy changes by −1.00 pp [−1.20, −0.80], a loss of 1.60 (2 % of the original's 80.00 %) allowed, "
        "on 1,000 evaluation samples",
    )


def test_every_line_of_the_budget_is_a_sentence() -> None:
    assert judged(row(Interval(-0.002, -0.004, 0.0))).findings == (
        "kept: accuracy changes by −0.20 pp [−0.40, 0.00], a loss of 1.00 allowed, on 1,000 evaluation samples",
        "kept: 2.50x [2.40, 2.60] faster than the same runtime's FP32 original at batch 1, at least 2x asked",
        "kept: 0.30x the bytes of the same runtime's FP32 original, at most 0.5x allowed",
    )


def test_undecided_accuracy_says_how_many_samples_are_missing() -> None:
    """The side of the limit is 0.31 wide, the margin 0.19: 1,000 x ((0.31 / 0.19)^2 - 1) = 1,662, in two digits 1,700."""
    verdict = judged(row(Interval(-0.0031, -0.0062, 0.0001)), Budget(metric_drop=0.005))
    assert verdict.decision == "inconclusive"
    assert verdict.more_samples == 1700
    assert verdict.findings == (
        "undecided: accuracy changes by −0.31 pp [−0.62, +0.01], a loss of 0.50 allowed, on 1,000 evaluation samples; "
        "needs about 1,700 more evaluation samples",
    )


def test_undecided_speed_says_how_much_time_is_missing() -> None:
    """Half-width 0.2 on the side of the limit, margin 0.1: three times the 10 s more."""
    verdict = judged(row(ratio=Interval(2.1, 1.9, 2.2)), Budget(speedup=2.0))
    assert verdict.more_seconds == pytest.approx(30.0)
    assert verdict.findings[0].endswith("at least 2x asked; needs about 30 s more measuring")
    unknown = row(ratio=Interval(2.1, 1.9, 2.2))
    unknown = replace(unknown, latency=(replace(unknown.latency[0], measured_s=0.0),))
    assert judged(unknown, Budget(speedup=2.0)).findings[0].endswith("at least 2x asked; needs more measuring")


@pytest.mark.parametrize("value", [-0.01, -0.0104, -0.0096])
def test_a_value_on_the_limit_is_not_promised_a_decision(value: float) -> None:
    verdict = judged(row(Interval(value, value - 0.01, value + 0.01)), Budget(metric_drop=0.01))
    assert (verdict.decision, verdict.more_samples) == ("inconclusive", None)
    assert verdict.findings[0].endswith("it lies on the limit: no reasonable number of samples decides it")


def test_a_ratio_on_the_limit_is_not_promised_a_decision() -> None:
    verdict = judged(row(ratio=Interval(2.004, 1.9, 2.1)), Budget(speedup=2.0))
    assert (verdict.decision, verdict.more_seconds) == ("inconclusive", None)
    assert verdict.findings[0].endswith("it lies on the limit: no reasonable measuring time decides it")


@pytest.mark.parametrize(
    ("control", "advice"),
    [
        (Interval(1.031, 1.012, 1.050), "; close other programs and run again"),
        (Interval(1.0, 0.93, 1.07), "; close other programs or raise benchmark.processes, and run again"),
    ],
)
@pytest.mark.parametrize("ratio", [FASTER, Interval(1.5, 1.4, 1.6)])
def test_beside_an_unstable_machine_no_speed_is_claimed(control: Interval, advice: str, ratio: Interval) -> None:
    verdict = judged(row(ratio=ratio), Budget(speedup=2.0), control)
    assert (verdict.decision, verdict.more_seconds) == ("inconclusive", None)
    [finding] = verdict.findings
    assert finding.startswith(f"undecided: the machine was unstable while measuring (A/A {control.value:.3f} [")
    assert finding.endswith(advice)


def test_a_steady_machine_or_no_speed_asked_changes_nothing() -> None:
    assert judged(row(), BUDGET, Interval(1.002, 0.99, 1.01)).decision == "accepted"
    assert judged(row(), Budget(size_ratio=0.5), Interval(1.2, 1.1, 1.3)).decision == "accepted"


def test_a_broken_class_rejects_whatever_the_budget_allows() -> None:
    classes = (ClassScore("cat", 1000, 0.912, 0.030, 1e-200), ClassScore("dog", 1000, 0.9, 0.9, 1.0))
    verdict = judged(row(classes=classes), Budget(metric_drop=0.5))
    assert verdict.decision == "rejected"
    assert verdict.findings[0] == "rejected: class 'cat' is broken: 91.2 % → 3.0 % of its 1,000 samples are right"


def test_of_many_broken_classes_the_worst_three_are_named() -> None:
    classes = tuple(ClassScore(str(number), 1000, 0.9, 0.01 * number, 1e-200) for number in range(10))
    findings = judged(row(classes=classes), Budget()).findings
    assert [finding.split("'")[1] for finding in findings[:3]] == ["0", "1", "2"]
    assert findings[3:] == ("rejected: 7 more classes are broken",)


def test_a_constant_answer_rejects_whatever_the_budget_allows() -> None:
    classes = (ClassScore("2", 1000, 0.9, 0.0, 1e-200), ClassScore("3", 1000, 0.9, 1.0, 1e-20))
    verdict = judged(row(constant="3", classes=classes), Budget())
    assert verdict.decision == "rejected"
    assert verdict.findings == (
        "rejected: every sample is given class '3': the artifact no longer tells its inputs apart",
    )


def test_what_is_wrong_with_the_answers_rejects() -> None:
    verdict = judged(replace(row(), findings=("the engine remembers its answers",)), Budget())
    assert (verdict.decision, verdict.findings) == ("rejected", ("rejected: the engine remembers its answers",))


@pytest.mark.parametrize(
    ("difference", "decision"),
    [
        (Interval(-0.02, -0.04, 0.0), "accepted"),
        (Interval(-0.04, -0.08, 0.0), "inconclusive"),
        (Interval(-0.2, -0.3, -0.1), "rejected"),
    ],
)
def test_the_worst_class_has_a_line_of_its_own(difference: Interval, decision: str) -> None:
    classes = (
        ClassScore("cat", 500, 0.9, 0.9 + difference.value, 0.1, difference),
        ClassScore("dog", 500, 0.9, 0.9, 1.0, Interval(0.0, -0.01, 0.01)),
    )
    verdict = judged(row(classes=classes), Budget(worst_class_drop=0.05))
    assert verdict.decision == decision
    assert re.search(
        rf"class 'cat', the worst, changes by −{-100 * difference.value:.2f} pp \[.*\] \(95 % over all 2 classes\), "
        "a loss of 5.00 allowed, on 1,000 evaluation samples",
        verdict.findings[0],
    )


def test_without_budget_and_findings_there_is_nothing_to_say() -> None:
    verdict = judged(row(), Budget())
    assert (verdict.decision, verdict.findings) == ("accepted", ())
