import numpy as np
import pytest
import torch
from torch import nn

from compress.prune import importance
from compress.prune.channels import Group, Slice

WEIGHT = torch.tensor([[1.0, -2.0], [3.0, 4.0], [0.0, -1.0]])


def pair():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)).eval()
    with torch.no_grad():
        model[0].weight.copy_(WEIGHT)
        model[0].bias.zero_()
        model[1].weight.copy_(torch.tensor([-2.0, 1.0, 3.0]))
        model[2].weight.copy_(torch.tensor([[1.0, 1.0, 4.0]]))
    return model


def family(width=3):
    return [
        Group((Slice("0.weight", 0, (index,)), Slice("1.weight", 0, (index,)), Slice("2.weight", 1, (index,))))
        for index in range(width)
    ]


def row(index):
    return Group((Slice("0.weight", 0, (index,)),))


def test_l1_is_the_mean_over_slices_relative_to_the_family():
    scores = importance.score(family(), [importance.l1(pair())])
    plain = np.array([(3 + 1) / 2, (7 + 1) / 2, (1 + 4) / 2])  # the batch norm's gamma is no weight matrix
    assert scores == pytest.approx(plain / plain.mean())


def test_l2_is_the_sum_of_squares():
    scores = importance.score(family(), [importance.l2(pair())])
    plain = np.array([(5 + 1) / 2, (25 + 1) / 2, (1 + 16) / 2])
    assert scores == pytest.approx(plain / plain.mean())


def test_bn_scale_is_the_size_of_gamma():
    assert importance.score(family(), [importance.bn_scale(pair())]) == pytest.approx(np.array([2, 1, 3]) / 2)


def test_a_channel_that_more_layers_read_matters_more():
    model = pair()
    more = [Group((*group.slices, Slice("2.weight", 1, group.slices[0].indices))) for group in family()]
    assert importance.score(more, [importance.l1(model)]).mean() == pytest.approx(2.0)


def test_taylor_is_the_squared_first_order_change_of_the_loss():
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    batches = [({"x": torch.tensor([[1.0, 1.0]])}, torch.zeros(1)), ({"x": torch.tensor([[2.0, 0.0]])}, torch.zeros(1))]
    measure = importance.taylor(model, batches, lambda outputs, target: (outputs - target).sum())
    # gradient of every row is x: the first batch gives w.x = 3 and 7, the second 2 and 6
    assert [measure(row(index)) for index in range(2)] == pytest.approx([9.0 + 4.0, 49.0 + 36.0])
    assert model[0].weight.grad is None


def test_random_repeats_by_its_seed():
    one, same, other = (importance.random(pair(), seed)(row(0)) for seed in (1, 1, 2))
    assert one == same != other


def test_the_next_measure_speaks_where_the_first_is_silent():
    model = pair()
    groups = [Group((Slice("2.weight", 1, (index,)),)) for index in range(3)]
    scores = importance.score(groups, [importance.bn_scale(model), importance.l1(model)])
    assert scores == pytest.approx(np.array([1, 1, 4]) / 2)


def test_all_are_equal_where_nothing_is_known_or_all_is_zero():
    silent = [Group((Slice("0.bias", 0, (index,)),)) for index in range(3)]
    assert importance.l1(pair())(silent[0]) is None
    assert importance.score(silent, [importance.l1(pair())]).tolist() == [1, 1, 1]
    assert importance.score(silent, [lambda group: 0.0]).tolist() == [0, 0, 0]


def test_a_head_counts_all_its_rows():
    heads = [Group((Slice("0.weight", 0, (0, 1)),)), Group((Slice("0.weight", 0, (2,)),))]
    assert importance.score(heads, [importance.l1(pair())]) == pytest.approx(np.array([10, 1]) / 5.5)


def test_raw_scores_keep_their_unit():
    assert importance.raw(family(), [importance.bn_scale(pair())]).tolist() == [2, 1, 3]
