from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.compare import Comparison, Shipped, compare, comparison_table
from benchmarks.report import Interval, Report
from export.errors import InputError
from tests.benchmarks.made_up import made_up_report, with_row

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
        ("size", "metric", "difference", "latency", "speedup"), 0.0
    )
    assert moves["speedup"].real is False
    assert shipped(comparison, run=0).moves == {}


def test_a_move_is_real_when_the_intervals_are_apart() -> None:
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
    assert moves["difference"].real is True


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
    assert change.cells[-1].endswith("% real")
    assert change.cells[3] == "0.0 %"
    assert any("Real: the two 95 % intervals do not overlap" in note for note in table.notes)


def test_one_run_is_not_a_comparison() -> None:
    with pytest.raises(InputError, match="needs two or more runs, found 1"):
        compare([("a", made_up_report())])


def test_a_run_twice_is_refused() -> None:
    with pytest.raises(InputError, match="run a stands twice; give each run once"):
        compare([("a", made_up_report()), ("a", made_up_report())])
