from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.render.markdown import escape, report_markdown
from tests.benchmarks.render.made_up import made_up_report
from tests.benchmarks.render.made_up_extremes import broken_report, unstable_report


def test_the_verdict_comes_before_any_table() -> None:
    text = report_markdown(made_up_report())
    assert text.index("- **openvino: accepted** with int8") < text.index("| target |")
    assert "  - 2.31x, at least 1.5x asked" in text


def test_every_table_has_one_width() -> None:
    for block in report_markdown(made_up_report()).split("\n\n"):
        if block.startswith("| "):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_it_holds_what_is_needed_to_make_it_again() -> None:
    text = report_markdown(made_up_report())
    for part in (
        "compress run examples/digits/recipe.yaml",
        "openvino: 2026.1.0",
        "epochs: 3",
        "ab" * 32,
        "cpu: AMD Zen 5",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("hostile", "harmless"),
    [
        ("a|b", r"a\|b"),
        ("<script>", "&lt;script&gt;"),
        ("two\nlines", "two lines"),
        ("**bold**", r"\*\*bold\*\*"),
        ("[x](http://y)", r"[x]\(http://y)"),
        ("−0.25 [−0.76, +0.23]", "−0.25 [−0.76, +0.23]"),
    ],
)
def test_markup_from_users_is_escaped(hostile: str, harmless: str) -> None:
    assert escape(hostile) == harmless


def test_a_command_cannot_leave_its_code_block() -> None:
    text = report_markdown(replace(made_up_report(), command="compress run `x`\n```\n# not a heading"))
    assert "````sh\ncompress run `x`\n```\n# not a heading\n````" in text


def test_the_reference_against_itself_stands_above_the_tables() -> None:
    text = report_markdown(made_up_report())
    line = "openvino: A/A: the reference against itself 1.001 [0.996, 1.006]: stable"
    assert text.index(line) < text.index("## What ships") < text.index("## What moved") < text.index("## Every engine")


def test_what_moved_says_how_much_and_whether_it_is_noise() -> None:
    text = report_markdown(made_up_report())
    moved = next(line for line in text.splitlines() if line.startswith("- openvino: "))
    assert "accuracy −0.25 [−0.76, +0.23] pp, within noise" in moved
    assert "0.55 % of the answers flip (6 lost, 4 gained, p 0.75)" in moved
    assert "worst class 6: 97.00 → 90.90 %" in moved
    assert "latency 2.31x [2.28, 2.35] faster than runtime FP32, beyond noise" in moved
    assert "throughput 2.31x [2.24, 2.38] more than runtime FP32, beyond noise" in moved


def test_an_unstable_machine_claims_no_speed_anywhere() -> None:
    text = report_markdown(unstable_report())
    assert text.startswith(
        "# digits\n\n> **The machine was unstable, no speed claim is made.** openvino: the machine was unstable"
    )
    assert "2.31x [2.28, 2.35]" not in text
    assert "latency: no claim; throughput: no claim" in text
    assert "1.52x [1.50, 1.55]" in text
    assert "no claim: the target's A/A row calls the machine unstable" in text


def test_wrong_answers_and_missing_evidence_are_told_before_the_tables() -> None:
    text = report_markdown(broken_report())
    assert text.index("> **Wrong answers:** openvino: distill int8: answers were remembered") < text.index(
        "## What ships"
    )
    needed = "**onnxruntime_mobile: inconclusive** with int8, needs about 1,200 more samples and 38 s more of measuring"
    assert needed in text


def test_the_long_tables_are_folded() -> None:
    text = report_markdown(made_up_report())
    assert "<details><summary>Latency by batch size</summary>\n\n| engine |" in text
    assert len(text.partition("<details>")[0].splitlines()) < 80


def test_what_a_device_has_to_know_of_what_ships_is_folded() -> None:
    text = report_markdown(made_up_report())
    fold = text.partition("<details><summary>On the device: onnxruntime_mobile int8</summary>")[2]
    fold = fold.partition("</details>")[0]
    assert "| smallest ONNX Runtime for it: commands: Android, arm64 | ./build.sh --android --minimal_build |" in fold
    assert "| XNNPACK | maybe | maybe | takes 4 of 7 | 3 |" in fold
