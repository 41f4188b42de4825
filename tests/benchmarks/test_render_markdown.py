from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.render_markdown import escape, report_markdown
from tests.benchmarks.made_up import made_up_report


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
