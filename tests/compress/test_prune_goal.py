import pytest

from compress.prune.blocks import Block
from compress.prune.choose.goal import CLOSE, Goal, reach
from compress.prune.choose.select import RatedBlock
from export.errors import UnsupportedError
from tests.compress.test_prune_select import family


def linear(counts, skipped):
    """100 at first, 1 less for each channel."""
    return 100.0 - counts.sum(1)


def goal(asked, name="speedup"):
    return Goal(name, asked, 100.0, lambda families, blocks: linear, lambda *_: 0.0)


FAMILIES = [family("a", range(1, 61), max_removed=0.9), family("b", range(1, 41), max_removed=0.9)]


def test_a_right_prediction_needs_one_candidate():
    found = reach(goal(2.0), FAMILIES, (), lambda selection, cost: 100 / cost)
    assert found.measured == found.predicted == 2.0 and found.tried == ((2.0, 2.0),)
    assert sum(found.selection.counts) == 50


@pytest.mark.parametrize("share", [0.7, 0.85, 1.2])
def test_a_prediction_that_is_off_is_corrected_and_never_falls_short(share):
    """Only a part of the predicted gain comes true, or more than it."""
    found = reach(goal(1.8), FAMILIES, (), lambda selection, cost: 1 + share * (100 / cost - 1))
    assert 1.8 <= found.measured <= CLOSE * 1.8 and len(found.tried) <= 4
    assert found.predicted == pytest.approx(1 + (found.measured - 1) / share)


def test_a_figure_reached_late_is_still_come_closer_to():
    """The third timing was 7 % too low, so the fourth goes far beyond: three more from there on."""
    families = [family(name, range(1, 501), max_removed=0.9) for name in "ab"]
    asked = Goal("speedup", 4.25, 1000.0, lambda *_: lambda counts, skipped: 1000.0 - counts.sum(1), lambda *_: 0.0)
    noise = iter([1.0, 1.0, 0.93, *[1.0] * 9])
    figures = []

    def measure(selection, cost):
        figures.append((1 + 0.77 * (1000 / cost - 1)) * next(noise))
        return figures[-1]

    found = reach(asked, families, (), measure)
    assert max(figures[:3]) < 4.25 < 4.25 * 1.05 < figures[3]
    assert found.measured <= CLOSE * 4.25 and [told for _, told in found.tried] == figures and 4 < len(figures) <= 7


def test_too_much_asked_is_refused_with_the_best_there_is():
    message = (
        r"prune.speedup: asked 30, but the most that may be removed reaches 10; "
        r"ask for at most that, raise max_removed or lower multiple_of"
    )
    with pytest.raises(UnsupportedError, match=message):
        reach(goal(30.0), FAMILIES, (), lambda selection, cost: 100 / cost)


def test_a_share_of_channels_is_a_figure_too():
    found = reach(goal(0.3, "channels_removed"), FAMILIES, (), lambda selection, cost: 1 - cost / 100)
    assert found.measured == found.predicted == pytest.approx(0.3) and sum(found.selection.counts) == 30


def test_a_block_goes_where_it_loses_less():
    def cost(counts, skipped):
        return linear(counts, skipped) - 30.0 * skipped[:, 0]

    asked = Goal("speedup", 1.4, 100.0, lambda families, blocks: cost, lambda *_: 0.0)
    cheap, dear = (RatedBlock(Block("block"), loss) for loss in (1.0, 1e6))
    assert reach(asked, FAMILIES, [cheap], lambda _, cost: 100 / cost).selection.skipped == (Block("block"),)
    assert reach(asked, FAMILIES, [dear], lambda _, cost: 100 / cost).selection.skipped == ()
