from __future__ import annotations

import io

from rich.console import Console

from compress.show import Quiet, Terminal


def test_the_terminal_shows_units_loops_and_sentences_with_the_time_left() -> None:
    screen = io.StringIO()
    with Terminal(Console(file=screen, force_terminal=True, width=140)) as show:
        show.expect(2)
        with show.unit("pruning"):
            assert list(show.track([1, 2, 3], "epoch 1", 3)) == [1, 2, 3]
        show.say("prune: done")
        with show.unit("compiling"):
            show._progress.refresh()
    text = screen.getvalue()
    assert "prune: done" in text
    assert "whole run: compiling" in text
    assert "1/2" in text
    assert "left" in text


def test_a_loop_that_is_left_early_takes_its_bar_along() -> None:
    with Terminal(Console(file=io.StringIO(), force_terminal=True)) as show:
        for item in show.track([1, 2, 3], "loop", 3):
            if item == 2:
                break
        assert [task.description for task in show._progress.tasks] == ["whole run"]


def test_quiet_passes_everything_through() -> None:
    show = Quiet()
    show.expect(3)
    show.say("nothing")
    with show.unit("work"):
        assert list(show.track(iter("ab"), "loop")) == ["a", "b"]
