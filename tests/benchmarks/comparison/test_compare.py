from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.comparison.compare import Comparison, Shipped, compare
from benchmarks.comparison.table import comparison_table
from benchmarks.measurements import Interval
from benchmarks.report import Decision, Report
from export.errors import InputError
from tests.benchmarks.render.made_up import control, made_up_report, with_row

OPENVINO_CHOSEN = 5


def against(other: Report) -> Comparison:
    return compare([("yesterday", made_up_report()), ("today", other)])


def shipped(comparison: Comparison, target: str = "openvino", run: int = 1) -> Shipped:
    return next(entry for entry in comparison.targets if entry.target == target).runs[run]


def with_machine(**changes: Any) -> Report:
    report = made_up_report()
    return replace(report, machine={**report.machine, **changes})


def with_ratio(value: float) -> Report:
    """Today's run, whose OpenVINO artifact has another speed-up, known to 1 %."""
    report = made_up_report()
    latency = report.rows[OPENVINO_CHOSEN].latency[0]
    faster = Interval(value, value * 0.99, value * 1.01)
    return with_row(report, OPENVINO_CHOSEN, latency=(replace(latency, faster_than_fp32=faster),))


def test_equal_runs_did_not_move() -> None:
    comparison = against(made_up_report())
    assert comparison.refusals == ()
    moves = shipped(comparison).moves
    assert {figure: move.change for figure, move in moves.items()} == dict.fromkeys(
        ("size", "metric", "latency", "speedup"), 0.0
    )
    assert {figure: move.real for figure, move in moves.items()} == {
        "size": None, "metric": False, "latency": False, "speedup": False
    }  # fmt: skip
    assert comparison.worse == ()
    assert shipped(comparison, run=0).moves == {}


def test_a_move_is_real_when_its_own_interval_excludes_zero() -> None:
    before = made_up_report().rows[OPENVINO_CHOSEN].latency[0].faster_than_fp32
    assert before is not None
    slower = shipped(against(with_ratio(before.value * 0.9))).moves["speedup"]
    assert slower.change == pytest.approx(-0.1)
    assert slower.real is True
    assert shipped(against(with_ratio(before.value * 1.01))).moves["speedup"].real is False


def test_sizes_and_metrics_move() -> None:
    report = made_up_report()
    row = report.rows[OPENVINO_CHOSEN]
    assert row.evaluation is not None and row.evaluation.difference is not None
    worse = replace(row.evaluation, value=0.9517, difference=Interval(-0.0225, -0.0276, -0.0177))
    moves = shipped(against(with_row(report, OPENVINO_CHOSEN, size_bytes=84_200, evaluation=worse))).moves
    assert moves["size"].change == pytest.approx(-0.5)
    assert moves["metric"].change == pytest.approx(-0.02)
    assert moves["metric"].real is True


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cpu": "Intel N100"}, r"^today against yesterday: latencies are not compared.*cpu AMD Zen 5 → Intel N100$"),
        ({"cores": 8}, r"machines differ: cores 2 → 8"),
        ({"instruction_sets": ["avx2", "amx_int8"]}, r"instruction_sets without avx512_vnni and with amx_int8"),
        ({"gpu": "H200"}, r"gpu absent → H200"),
    ],
)
def test_latencies_of_different_machines_are_refused(changes: dict[str, Any], words: str) -> None:
    comparison = against(with_machine(**changes))
    [refusal] = comparison.refusals
    assert re.search(words, refusal)
    assert not {"latency", "speedup"} & set(shipped(comparison).moves)
    assert "metric" in shipped(comparison).moves


def test_a_runtime_version_refuses_its_own_target_only() -> None:
    report = made_up_report()
    comparison = against(replace(report, versions={**report.versions, "openvino": "2026.2.0"}))
    assert comparison.refusals == (
        "today against yesterday: latencies on openvino are not compared, the runtimes differ: openvino 2026.1.0 → 2026.2.0",
    )
    assert "latency" not in shipped(comparison, "openvino").moves
    assert "latency" in shipped(comparison, "onnxruntime_mobile").moves


def test_other_batch_sizes_are_refused() -> None:
    report = made_up_report()
    rows = tuple(replace(row, latency=row.latency[1:]) for row in report.rows)
    refusals = against(replace(report, rows=rows)).refusals
    assert any("measured differently: batch 1, 1 thread → batch 32, 1 thread" in refusal for refusal in refusals)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metric": "f1_macro"}, "the metric is not compared: metric accuracy → f1_macro"),
        ({"hashes": {"weights": "ab" * 32, "evaluation": "00" * 32}}, "the metric is not compared: evaluation cdcd"),
    ],
)
def test_metrics_on_other_data_are_refused(changes: dict[str, Any], words: str) -> None:
    comparison = against(replace(made_up_report(), **changes))
    assert any(words in refusal for refusal in comparison.refusals)
    assert "metric" not in shipped(comparison).moves


def test_a_target_of_one_run_only_has_no_move() -> None:
    report = made_up_report()
    without = replace(report, rows=tuple(row for row in report.rows if row.target != "openvino"))
    comparison = compare([("a", without), ("b", report)])
    assert shipped(comparison, "openvino", run=0).run == "b"
    assert shipped(comparison, "openvino", run=0).moves == {}


def test_the_table_names_the_moves() -> None:
    table = comparison_table(against(with_ratio(1.5)))
    change = next(line for line in table.lines if line.cells[0].strip() == "change")
    within = table.lines[table.lines.index(change) + 1]
    assert (change.cells[3], change.cells[-1]) == ("0.0 %", "−35.2 %")
    assert within.cells[-1] == "[−36.4, −34.0] real"
    assert within.cells[-3:-1] == ("[−0.70, +0.70] unsure", "unsure")
    assert any("Real: that excludes zero" in note for note in table.notes)
    assert "accuracy: where a run keeps no samples.npz, intervals are put together as independent." in table.notes


def test_one_run_is_not_a_comparison() -> None:
    with pytest.raises(InputError, match="needs two or more runs, found 1"):
        compare([("a", made_up_report())])


def test_a_run_twice_is_refused() -> None:
    with pytest.raises(InputError, match="run a stands twice; give each run once"):
        compare([("a", made_up_report()), ("a", made_up_report())])


def with_evaluation(value: float, difference: Interval) -> Report:
    report = made_up_report()
    evaluation = report.rows[OPENVINO_CHOSEN].evaluation
    assert evaluation is not None
    return with_row(report, OPENVINO_CHOSEN, evaluation=replace(evaluation, value=value, difference=difference))


def with_decision(decision: Decision) -> Report:
    report = made_up_report()
    first, *others = report.verdicts
    return replace(report, verdicts=(replace(first, decision=decision), *others))


def with_control(ratio: Interval) -> Report:
    """Today's run, beside whose OpenVINO engines the reference was measured against itself."""
    report = made_up_report()
    rows = [row for row in report.rows if (row.target, row.role) != ("openvino", "control")]
    return replace(report, rows=(*rows, control("openvino", 0.00121, ratio)))


WORSE = [
    (with_evaluation(0.9317, Interval(-0.0425, -0.0476, -0.0377)),
     r"accuracy 97\.17 → 93\.17 % \(−4\.00 \[−4\.7\d, −3\.3\d\] pp\)"),
    (with_ratio(1.5), r"speed-up over the runtime's FP32 2\.31x → 1\.50x \(−35\.2 % \[−36\.4, −34\.0\]\)"),
    (with_row(made_up_report(), OPENVINO_CHOSEN, size_bytes=171_768), r"size 168 KB → 172 KB \(\+2\.0 %\)"),
    (with_decision("inconclusive"), r"verdict accepted → inconclusive"),
    (with_decision("failed"), r"verdict accepted → failed"),
]  # fmt: skip


@pytest.mark.parametrize(("report", "sentence"), WORSE)
def test_what_really_got_worse_is_a_sentence(report: Report, sentence: str) -> None:
    [found] = against(report).worse
    assert re.fullmatch(f"today against yesterday: openvino: {sentence}", found)


@pytest.mark.parametrize(
    "report",
    [
        with_evaluation(0.9697, Interval(-0.0045, -0.0096, 0.0003)),
        with_evaluation(0.9917, Interval(0.0175, 0.0124, 0.0223)),
        with_ratio(2.28),
        with_ratio(3.5),
        with_row(made_up_report(), OPENVINO_CHOSEN, size_bytes=170_000),
        with_row(made_up_report(), OPENVINO_CHOSEN, size_bytes=90_000),
    ],
)
def test_what_is_unsure_small_or_better_is_not_worse(report: Report) -> None:
    assert against(report).worse == ()


def test_a_metric_that_should_be_low_got_worse_when_it_rose() -> None:
    rose, fell = (
        with_evaluation(value, Interval(value - 0.9742, value - 0.979, value - 0.969)) for value in (0.999, 0.93)
    )
    before = replace(made_up_report(), higher_is_better=False)
    assert "accuracy 97.17 → 99.90 %" in compare([("a", before), ("b", rose)]).worse[0]
    assert compare([("a", before), ("b", fell)]).worse == ()


def test_a_slower_median_alone_is_not_worse() -> None:
    report = made_up_report()
    latency = report.rows[OPENVINO_CHOSEN].latency[0]
    blocks = tuple(tuple(2 * block for block in process) for process in latency.block_medians_s)
    slower = replace(latency, median_s=2 * latency.median_s, block_medians_s=blocks)
    comparison = against(with_row(report, OPENVINO_CHOSEN, latency=(slower,)))
    assert shipped(comparison).moves["latency"].real is True
    assert comparison.worse == ()


def test_a_verdict_that_was_not_accepted_may_get_worse_and_better() -> None:
    for before, now, sentences in (
        ("inconclusive", "rejected", 1),
        ("rejected", "accepted", 0),
        ("rejected", "rejected", 0),
    ):
        comparison = compare([("a", with_decision(before)), ("b", with_decision(now))])  # type: ignore[arg-type]
        assert len(comparison.worse) == sentences


def test_a_target_that_is_gone_is_worse_if_it_was_accepted() -> None:
    report = made_up_report()
    rows = tuple(row for row in report.rows if row.target in ("torch", "onnxruntime_mobile"))
    comparison = against(replace(report, rows=rows))
    assert comparison.worse == ("today against yesterday: openvino: verdict accepted → not in the run",)


def test_each_of_several_runs_is_held_against_the_first() -> None:
    runs = [("a", made_up_report()), ("b", with_ratio(1.5)), ("c", with_ratio(1.2))]
    assert [sentence.partition(" ")[0] for sentence in compare(runs).worse] == ["b", "c"]


@pytest.mark.parametrize(("swapped", "name"), [(False, "today"), (True, "yesterday")])
def test_beside_an_unstable_machine_no_speed_moved(swapped: bool, name: str) -> None:
    unsteady = with_control(Interval(1.031, 1.012, 1.050))
    pair = [with_ratio(1.5), unsteady] if not swapped else [unsteady, with_ratio(1.5)]
    comparison = compare(list(zip(("yesterday", "today"), pair, strict=True)), across=True)
    assert comparison.refusals == (
        f"today against yesterday: latencies on openvino are not compared: {name}: the machine was unstable while measuring "
        "(A/A 1.031 [1.012, 1.050]); close other programs and run again",
    )
    assert {"latency", "speedup"} & set(shipped(comparison).moves) == set()
    assert "speedup" in shipped(comparison, "onnxruntime_mobile").moves
    assert comparison.worse == ()


def test_across_machines_and_versions_only_when_told_to() -> None:
    report = replace(with_ratio(1.5), versions={**made_up_report().versions, "openvino": "2026.2.0"})
    elsewhere = replace(report, machine={**report.machine, "cpu": "Intel N100"})
    runs = [("yesterday", made_up_report()), ("today", elsewhere)]
    assert compare(runs).worse == ()
    assert len(compare(runs).refusals) == 2
    told = compare(runs, across=True)
    assert told.refusals == ()
    assert told.across == (
        "today against yesterday: latencies are compared, though the machines differ: cpu AMD Zen 5 → Intel N100",
        "today against yesterday: latencies on openvino are compared, though the runtimes differ: openvino 2026.1.0 → 2026.2.0",
    )
    assert "speed-up over the runtime's FP32 2.31x → 1.50x" in told.worse[0]


def samples_and_reports(lost: int) -> tuple[list[tuple[str, Report]], dict[str, dict[str, np.ndarray]]]:
    """Two runs of 797 samples whose answers are alike, but for the `lost` that are wrong today only."""
    truth = np.arange(797) % 10
    before = np.stack([np.where(np.arange(797) < 20, -1, truth), truth, np.full(797, 0.9)], axis=1).astype(np.float64)
    now = before.copy()
    now[100 : 100 + lost, 0] = -1
    reports = []
    for label, rows in (("yesterday", before), ("today", now)):
        value = float(np.mean(rows[:, 0] == rows[:, 1]))
        reports.append((label, with_evaluation(value, Interval(value - 1, value - 1.01, value - 0.99))))
    return reports, {"yesterday": {"openvino/evaluation": before}, "today": {"openvino/evaluation": now}}


def test_samples_tell_what_intervals_alone_cannot() -> None:
    reports, samples = samples_and_reports(lost=8)
    assert compare(reports).worse == ()
    comparison = compare(reports, samples)
    move = shipped(comparison).moves["metric"]
    assert (move.paired, move.real) == (True, True)
    assert re.search(
        r"accuracy 97\.49 → 96\.49 % \(−1\.00 \[.*\] pp; 8 samples lost, 0 gained, McNemar p 0\.0078\)",
        comparison.worse[0],
    )
    assert "accuracy: paired sample by sample." in comparison_table(comparison).notes


def test_samples_of_unknown_evaluation_data_are_not_paired() -> None:
    reports, samples = samples_and_reports(lost=8)
    unknown = [(label, replace(report, hashes={"weights": "ab"})) for label, report in reports]
    assert not shipped(compare(unknown, samples)).moves["metric"].paired


def test_what_the_first_run_lacks_is_not_called_refused() -> None:
    report = made_up_report()
    without = replace(report, rows=tuple(row for row in report.rows if row.target != "openvino"))
    cells = [line.cells for line in comparison_table(compare([("a", without), ("b", report)])).lines]
    openvino = next(index for index, line in enumerate(cells) if line == ("openvino",))
    assert cells[openvino + 1][0] == "  b"
    assert not any("refused" in line for line in cells)


def test_a_refused_latency_says_so_in_its_place() -> None:
    [change] = [
        line.cells for line in comparison_table(against(with_machine(cores=8))).lines if "refused" in line.cells
    ][:1]
    assert (change[0], change[3], change[-2:]) == ("    change", "0.0 %", ("refused", "refused"))
