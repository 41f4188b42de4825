import numpy as np
import pytest

from compress.prune.channels import Group, Slice
from compress.prune.select import Family, channels_of, selections, smallest_that_reaches
from export.errors import UnsupportedError


def groups_of(name, number, width=1):
    return [
        Group(
            (
                Slice(name, 0, tuple(range(index * width, (index + 1) * width))),
                Slice(f"{name}.reader", 1, (index,) * width),
            )
        )
        for index in range(number)
    ]


def family(name, scores, width=None, max_removed=0.75, multiple_of=1):
    groups = groups_of(name, len(scores))
    return Family.of(groups, np.array(scores, float), width or len(scores), max_removed, multiple_of)


def names(selection):
    return [[group.slices[0].indices[0] for group in part] for part in selection]


def test_the_least_important_of_all_families_go_first():
    found = selections([family("a", [5, 1, 3]), family("b", [2, 9, 4])])
    assert [names(each) for each in found] == [[[1], []], [[1], [0]], [[1, 2], [0]], [[1, 2], [0, 2]]]


def test_no_family_loses_more_than_its_share_or_its_last_channel():
    assert family("a", range(8), max_removed=0.5).counts == (0, 1, 2, 3, 4)
    assert family("a", range(4), max_removed=0.999).counts == (0, 1, 2, 3)
    assert family("a", [1], max_removed=0.75).counts == (0,)


def test_what_is_left_of_a_width_is_a_multiple():
    assert family("a", range(32), multiple_of=8).counts == (0, 8, 16, 24)
    assert family("a", range(10), multiple_of=8).counts == (0, 2)
    assert family("a", range(8), width=24, multiple_of=4, max_removed=0.999).counts == (0, 4)
    assert family("a", range(6), multiple_of=8).counts == (0,)


def test_heads_go_whole_whatever_the_multiple():
    heads = groups_of("a", 4, width=3)
    assert channels_of(heads[0]) == 3
    assert Family.of(heads, np.arange(4.0), 12, 0.75, 8).counts == (0, 1, 2, 3)


def test_the_smallest_removal_that_reaches_is_found():
    candidates = selections([family("a", range(100), max_removed=0.9)])
    asked = []

    def removed(selection):
        asked.append(len(selection[0]))
        return len(selection[0])

    chosen, reached = smallest_that_reaches(37, candidates, removed, "macs_ratio")
    assert (len(chosen[0]), reached) == (37, 37)
    assert len(asked) <= 8


def test_a_large_step_gives_channels_back_elsewhere():
    stream = family("stream", [9] * 16, multiple_of=8, max_removed=0.5)  # 8 channels or none, after all others
    candidates = selections([family("inner", range(8), max_removed=0.5), stream])
    chosen, reached = smallest_that_reaches(10, candidates, lambda each: len(each[0]) + len(each[1]), "macs_ratio")
    assert names(chosen) == [[0, 1], list(range(8))] and reached == 10


def test_too_much_asked_is_refused_with_the_best_there_is():
    message = (
        r"prune.speedup: asked 4, but the most that may be removed reaches 2.5; "
        r"ask for at most that, raise max_removed or lower multiple_of"
    )
    with pytest.raises(UnsupportedError, match=message):
        smallest_that_reaches(4.0, selections([family("a", range(4))]), lambda _: 2.5, "speedup")
