"""The optimal brain surgeon for channels against least squares solved anew by numpy."""

import numpy as np
import pytest
import torch
from torch import nn

from compress.prune.blocks import Block, blocks_of
from compress.prune.channels import Group, Slice, together
from compress.prune.follow import follow
from compress.prune.importance.obs import obs
from compress.prune.importance.rating import blocks_by_channels
from tests.compress import prune_models as models


def neurons(count):
    return [
        Group((Slice("0.weight", 0, (c,)), Slice("0.bias", 0, (c,)), Slice("2.weight", 1, (c,)))) for c in range(count)
    ]


def tiny(outputs, bias=True):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, outputs, bias=bias)).eval()


def missed(hidden, weight, left, constant):
    """What outputs hidden @ weight miss, at best, of the columns `left` alone: by numpy's least squares."""
    columns = np.concatenate([hidden[:, left], np.ones((len(hidden), 1))], 1) if constant else hidden[:, left]
    target = hidden @ weight.T
    return float(((target - columns @ np.linalg.lstsq(columns, target, rcond=None)[0]) ** 2).sum(1).mean())


@pytest.mark.parametrize("bias", [True, False])
def test_each_rise_is_what_least_squares_misses_more(bias):
    """One output: what the model listens to is one number, and all rises are in proportion."""
    model, x = tiny(1, bias), torch.randn(400, 3)
    hidden = model[1](model[0](x)).detach().double().numpy()
    weight = model[2].weight.detach().double().numpy()
    measure = obs(model, [neurons(5)], [({"x": x}, None)], seed=0)
    found = np.array([measure(group) for group in neurons(5)])
    left, rises = list(range(5)), np.zeros(5)
    while left:
        now = missed(hidden, weight, left, bias)
        more = {c: missed(hidden, weight, [each for each in left if each != c], bias) - now for c in left}
        least = min(more, key=more.get)
        rises[least] = max(more[least], rises.max())
        left.remove(least)
    heed = found.max() / rises.max()
    assert found == pytest.approx(rises * heed, rel=0.02, abs=1e-3 * found.max())
    assert heed == pytest.approx(1.0, rel=0.2)  # the mean square of 400 normal numbers


def test_of_two_equal_channels_the_second_is_dear():
    model, x = tiny(2), torch.randn(200, 3)
    with torch.no_grad():
        model[0].weight[1], model[0].bias[1] = model[0].weight[0], model[0].bias[0]
        model[2].weight[:, :2] = 5.0
    measure = obs(model, [neurons(5)], [({"x": x}, None)], seed=0)
    cheap, dear = sorted(measure(group) for group in neurons(5)[:2])
    assert cheap < 0.01 * dear


def test_an_output_that_nobody_listens_to_costs_nothing():
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2), nn.Linear(2, 1)).eval()
    with torch.no_grad():
        model[3].weight[0, 1] = 0.0
        model[2].weight[0, :2] = 0.0
    measure = obs(model, [neurons(5)], [({"x": torch.randn(100, 3)}, None)], seed=0)
    scores = [measure(group) for group in neurons(5)]
    assert max(scores[:2]) < 1e-9 < min(scores[2:])


@pytest.mark.parametrize(
    ("made", "inputs"),
    [
        (models.Vgg, models.images()),
        (models.PaddedResNet, models.images()),
        (models.Dense, models.images()),
        (models.Mobile, models.images()),
        (models.Attention, models.tokens()),
    ],
)
def test_channels_and_heads_of_networks_are_ranked_and_nothing_stays_behind(made, inputs):
    model = models.made(made)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    families = together(follow(model, inputs).groups)
    measure = obs(model, families, [(inputs, torch.zeros(2))], seed=0)
    scores = [measure(group) for family in families for group in family]
    assert all(score is not None and np.isfinite(score) and score >= 0 for score in scores)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 6), nn.LSTM(6, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x):
        return self.head(self.second(torch.relu(self.first(x)))[0][:, -1])


def test_what_a_layer_reads_that_is_no_known_one_is_not_ranked():
    model = Recurrent().eval()
    inputs = {"x": torch.randn(2, 3, 4)}
    families = together(follow(model, inputs).groups)
    measure = obs(model, families, [(inputs, torch.zeros(2))], seed=0)
    read_by_lstm = [family for family in families if any(s.tensor == "first.weight" for s in family[0].slices)]
    assert read_by_lstm and all(measure(group) is None for family in read_by_lstm for group in family)


def test_a_block_is_worth_all_channels_inside():
    model, inputs = models.made(models.PaddedResNet), models.images()
    families = together(follow(model, inputs).groups)
    measure = obs(model, families, [(inputs, torch.zeros(2))], seed=0)

    def scores(family):
        return np.array([measure(group) for group in family])

    blocks = blocks_of(model, inputs)
    rated = blocks_by_channels(blocks, families, scores)
    (inner,) = [family for family in families if ("one.conv1.weight", 0) in family[0].family]
    assert [each.block.path for each in rated] == [block.path for block in blocks] == ["one"]
    assert rated[0].loss == pytest.approx(float(scores(inner).sum()))
    assert blocks_by_channels([Block("bn1")], families, scores) == []
