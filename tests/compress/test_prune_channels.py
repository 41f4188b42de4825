import numpy as np

from compress.prune.channels import Channels, Group, LeftAlone, Slice


def test_unified_indices_form_one_group_and_only_produced_ones_can_go():
    channels = Channels()
    rows = channels.axis("conv.weight", 0, 3)
    channels.axis("conv.weight", 1, 2)
    bias = channels.axis("conv.bias", 0, 3)
    channels.produce(rows)
    channels.unify(rows, bias)
    assert channels.groups() == tuple(
        Group((Slice("conv.weight", 0, (index,)), Slice("conv.bias", 0, (index,)))) for index in range(3)
    )


def test_a_pin_holds_for_all_that_is_unified_before_or_after():
    channels = Channels()
    first, second, third = (channels.axis(name, 0, 2) for name in ("a.weight", "b.weight", "c.weight"))
    for axis in (first, second, third):
        channels.produce(axis)
    channels.unify(first, second)
    channels.pin(second[:1], "reason")
    channels.unify(third, first)
    assert [group.slices[0].indices for group in channels.groups()] == [(1,)]
    assert channels.left_alone()[2] == LeftAlone("c", "1 of 2 channels stay: reason")


def test_more_reasons_are_counted():
    channels = Channels()
    axis = channels.axis("a.weight", 0, 2)
    channels.produce(axis)
    channels.pin(axis, "one")
    channels.pin(axis, "two")
    assert channels.left_alone() == (LeftAlone("a", "2 of 2 channels stay: one (and 1 more)"),)


def test_a_repeated_id_takes_all_its_places():
    channels = Channels()
    rows = channels.axis("conv.weight", 0, 2)
    columns = channels.axis("linear.weight", 1, 6)
    channels.produce(rows)
    channels.unify(np.repeat(rows, 3), columns)
    assert channels.groups()[1].slices == (Slice("conv.weight", 0, (1,)), Slice("linear.weight", 1, (3, 4, 5)))


def test_fixed_positions_stay():
    channels = Channels()
    rows = channels.axis("conv.weight", 0, 4)
    channels.produce(rows)
    channels.unify(rows, np.concatenate([channels.fixed(1, "padding"), channels.axis("shift", 0, 2), rows[3:]]))
    assert [group.slices[0].indices for group in channels.groups()] == [(1,), (2,), (3,)]
