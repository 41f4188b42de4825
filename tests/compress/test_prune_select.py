import numpy as np

from compress.prune.channels import Group, Slice
from compress.prune.choose.select import Family, Selection, channels_of


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


def test_losses_are_the_sums_of_the_least_important():
    found = family("a", [5, 1, 3, 4], multiple_of=2)
    assert [group.slices[0].indices[0] for group in found.groups] == [1, 2, 3, 0]
    assert found.counts == (0, 2) and found.losses.tolist() == [0.0, 4.0]


def test_a_selection_takes_the_least_important_of_each_family():
    families = [family("a", [5, 1, 3]), family("b", [2, 9, 4])]
    selection = Selection((2, 1))
    assert [[group.slices[0].indices[0] for group in part] for part in selection.parts(families)] == [[1, 2], [0]]
    assert len(selection.groups(families)) == 3


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
