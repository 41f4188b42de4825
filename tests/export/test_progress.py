"""Progress as lines."""

from __future__ import annotations

import pytest

from export.progress import Lines


def test_a_line_comes_every_so_many_items_and_the_items_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(Lines(every=2)(range(5), "work", total=5)) == [0, 1, 2, 3, 4]
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" steps")[0] for line in lines] == ["work: 2 of 5", "work: 4 of 5"]


def test_without_a_total_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(Lines(every=1)("ab", "work")) == ["a", "b"]
    assert capsys.readouterr().out == ""
