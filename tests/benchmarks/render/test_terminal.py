from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.comparison.compare import compare
from benchmarks.render.terminal import print_comparison, print_report
from benchmarks.report import Report
from tests.benchmarks.render.made_up import NO_GPU, made_up_report, with_row
from tests.benchmarks.render.made_up_extremes import broken_report, unstable_report


def printed(report: Report, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_report(report, console, Path("runs/digits"))
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [80, 100, 140])
def test_no_line_is_wider_than_the_terminal_and_no_figure_is_cut(width: int) -> None:
    text = printed(made_up_report(), width)
    assert max(len(line) for line in text.splitlines() if "runs/digits" not in line) <= width
    assert "…" not in text
    assert "2.31x [2.28, 2.35]" in text
    assert "−0.25 [−0.76, +0.23]" in text


def test_every_engine_has_its_line_and_the_chosen_are_marked() -> None:
    lines = printed(made_up_report(), 140).splitlines()
    engines = [line for line in lines if line.strip().startswith(("original ", "prune ", "distill ", "▸ distill"))]
    assert len(engines) == len(made_up_report().rows)
    assert sum(line.startswith("▸") for line in engines) == 3


def test_validation_figures_are_marked_and_explained() -> None:
    text = printed(made_up_report(), 140)
    assert "93.22 v" in text
    assert "v: on the validation set (200 samples)" in text
    assert "On the evaluation set (797 samples)" in text


def test_what_was_not_run_says_why_and_invents_nothing() -> None:
    text = " ".join(printed(made_up_report(), 140).split())
    assert f"tensorrt: original fp32, distill int8, distill fp16: compiled, not run here: {NO_GPU}" in text
    assert "int8_dynamic: failed: ConvInteger is not in this build" in text
    assert "▸ distill fp16 1.10 MB not run openvino" not in text


def test_verdicts_warnings_and_places_come_after_the_tables() -> None:
    text = printed(made_up_report(), 100)
    order = ["Every engine", "What ships", "openvino: accepted", "warning: calibration", "runs/digits/report.html"]
    assert [text.index(words) for words in order] == sorted(text.index(words) for words in order)
    assert "runs/digits/artifacts/openvino/int8" in text


def test_the_choice_is_explained() -> None:
    report = with_row(made_up_report(), 5, reason="the fastest inside the budget")
    assert "openvino: int8 ships: the fastest inside the budget" in printed(report, 100)


def test_narrow_terminals_say_what_was_left_out() -> None:
    assert "Left out for want of room: flips %" in printed(made_up_report(), 90)
    assert "Left out" not in printed(made_up_report(), 100)


def test_markup_in_names_is_printed_as_it_is() -> None:
    report = with_row(replace(made_up_report(), warnings=("[bold]x[/nothing]",)), 5, scheme="[red]int8[/]")
    text = printed(report, 140)
    assert "[bold]x[/nothing]" in text
    assert "[red]int8[/]" in text


def test_a_target_without_any_artifact_still_prints() -> None:
    report = made_up_report()
    rows = tuple(row for row in report.rows if not (row.target == "tensorrt" and row.role == "chosen"))
    assert "nothing" in printed(replace(report, rows=rows), 100)


def test_the_control_and_what_is_needed_stand_with_the_verdict() -> None:
    text = printed(made_up_report(), 100)
    assert "openvino: accepted\n" in text
    assert "  A/A: the reference against itself 1.001 [0.996, 1.006]: stable\n" in text
    assert "onnxruntime_mobile: inconclusive, needs about 1,200 more samples and 38 s more of measuring\n" in text


@pytest.mark.parametrize("width", [80, 140])
def test_an_unstable_machine_claims_no_speed(width: int) -> None:
    text = " ".join(printed(unstable_report(), width).split())
    assert "A/A: the reference against itself 1.062 [1.031, 1.094]: unstable, no speed claim" in text
    assert "2.31x" not in text and "10.4x" not in text
    assert "no claim" in text
    assert "1.52x [1.50, 1.55]" in text


def test_wrong_answers_are_printed() -> None:
    text = " ".join(printed(broken_report(), 140).split())
    assert "wrong answers: openvino: distill int8: answers were remembered" in text
    assert "wrong answers: openvino: distill int8: every sample is given class '6'" in text


def test_comparison_prints_refusals_first() -> None:
    report = made_up_report()
    console = Console(file=io.StringIO(), width=100)
    other = replace(report, machine={**report.machine, "cpu": "Intel N100"})
    print_comparison(compare([("a", report), ("b", other)]), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.startswith("not compared: b against a: latencies are not compared, the machines differ")
    assert "refused" in text
