"""Every rule alone, on hand-numbered channels: ids are 0, 1, 2, ... in the order in which axes are made."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from compress.prune import layer_rules, shape_rules
from compress.prune.channels import Channels
from compress.prune.follow import follow
from compress.prune.rules import RULES
from compress.prune.site import Followed, Site
from tests.compress import prune_models as models


class Layered(nn.Module):
    """linear -> the operation under test -> linear; `first` makes the channels that are watched."""

    def __init__(self, operation, width=8, read=8):
        super().__init__()
        self.first, self.last = nn.Linear(6, width), nn.Linear(read, 5)
        self.operation = operation

    def forward(self, x):
        return self.last(self.operation(self.first(x)))


def left_alone(operation, **sizes):
    following = follow(models.made(lambda: Layered(operation, **sizes)), models.rows())
    return {each.where: each.reason for each in following.left_alone}.get("first")


def at(shape, operator="test"):
    return Site(Channels(), operator, "place", tuple(shape))


def new(site, *shape):
    return Followed(shape, tuple(site.channels.axis("t", dim, size) for dim, size in enumerate(shape)))


def fixed(*shape):
    return Followed(shape, (None,) * len(shape))


@pytest.mark.parametrize(
    "operation",
    [
        F.gelu,
        torch.tanh,
        lambda x: x.clone().mul_(2).add_(1),
        lambda x: F.dropout(x, 0.5, training=False),
        lambda x: x.double().float(),
        lambda x: x + torch.tensor(3.0),
        lambda x: torch.where(x > 0, x, 0.1 * x),
        lambda x: x.unsqueeze(1).squeeze(1),
        lambda x: x.t().contiguous().t(),
        lambda x: x.unsqueeze(-1).expand(-1, -1, 4).mean(-1),
        lambda x: x.view(-1, 8, 1, 1).flatten(1),
        lambda x: x[:],
        lambda x: x + x.mean(0)[:, None].expand(8, 3).t(),
        lambda x: x * x.unsqueeze(0).squeeze(),
    ],
)
def test_channels_pass(operation):
    assert left_alone(operation) is None


@pytest.mark.parametrize(
    ("operation", "sizes", "reason"),
    [
        (lambda x: F.softmax(x, -1), {}, "softmax: every channel depends on all others"),
        (
            lambda x: F.layer_norm(x, (8,)),
            {},
            "layer_norm: it normalises over the channels, and each changes all others",
        ),
        (lambda x: x.mean(1, keepdim=True), {"read": 1}, "mean: it reduces over the channels"),
        (lambda x: x[:, :4], {"read": 4}, "slice: it takes channels by their position"),
        (lambda x: x[:, 3:4], {"read": 1}, "slice: it takes channels by their position"),
        (lambda x: x.select(1, 0).unsqueeze(1), {"read": 1}, "select: it takes a channel by its position"),
        (lambda x: x + torch.ones(8), {}, "add: it meets an axis of fixed size"),
        (lambda x: x.repeat(1, 2), {"read": 16}, "repeat: no rule follows channels through it"),
        (lambda x: F.pad(x, (-1, 0)), {"read": 7}, "pad: padding with mode=constant, -1 before and 0 after"),
        (lambda x: F.pad(x, (1, 1), mode="replicate"), {"read": 10}, "pad: padding with mode=replicate"),
        (lambda x: torch.cat(x.chunk(3, 1), 1), {}, "chunk: 8 channels do not make 3 equal chunks"),
        (lambda x: F.group_norm(x, 2), {}, "group_norm: it normalises over groups of channels"),
    ],
)
def test_channels_stay_with_a_reason(operation, sizes, reason):
    assert left_alone(operation, **sizes).startswith(f"8 of 8 channels stay: {reason}")


def test_grouped_convolution_stays():
    class Grouped(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 8, 1)
            self.grouped = nn.Conv2d(8, 8, 1, groups=4)
            self.last = nn.Conv2d(8, 2, 1)

        def forward(self, x):
            return self.last(self.grouped(self.first(x)))

    following = follow(models.made(Grouped), models.images())
    reason = "8 of 8 channels stay: conv2d in grouped: 4 groups of 2 channels must stay equal"
    assert [each.reason for each in following.left_alone[:2]] == [reason, reason]
    assert following.groups == ()


def test_depthwise_with_a_multiplier_takes_all_outputs_of_a_channel():
    site = at((2, 6, 4, 4))
    x, weight = new(site, 2, 3, 4, 4), new(site, 6, 1, 3, 3)
    layer_rules.convolution(site, x, weight, None, 1, 1, 1, 3)
    roots = site.channels.roots
    assert (roots(weight.axes[0]) == np.repeat(roots(x.axes[1]), 2)).all()


def test_transposed_convolution_swaps_rows_and_columns():
    site = at((2, 5, 8, 8))
    x, weight, bias = new(site, 2, 3, 4, 4), new(site, 3, 5, 2, 2), new(site, 5)
    out = layer_rules.transposed_convolution(site, x, weight, bias, 2)
    roots = site.channels.roots
    assert (roots(x.axes[1]) == roots(weight.axes[0])).all()
    assert (roots(out[1]) == roots(bias.axes[0])).all()


def test_matmul_contracts_the_inner_axes():
    site = at((2, 3, 5))
    a, b = new(site, 2, 3, 4), new(site, 2, 4, 5)
    out = layer_rules.matmul(site, a, b)
    roots = site.channels.roots
    assert (roots(a.axes[2]) == roots(b.axes[1])).all()
    assert (roots(a.axes[0]) == roots(b.axes[0])).all()
    assert (out[1] == a.axes[1]).all() and (out[2] == b.axes[2]).all()


def test_attention_keeps_the_width_of_heads_and_ties_heads():
    site = at((2, 4, 7, 3))
    query, key, value = (
        Followed((2, 4, 7, 3), (None, new(site, 4).axes[0], None, new(site, 3).axes[0])) for _ in "qkv"
    )
    out = layer_rules.attention(site, query, key, value, None)
    roots = site.channels.roots
    assert (roots(query.axes[1]) == roots(key.axes[1])).all() and (roots(out[1]) == roots(value.axes[1])).all()
    assert (out[3] == value.axes[3]).all()


def test_pad_shifts():
    site = at((2, 7, 4, 4))
    x = Followed((2, 4, 4, 4), (None, new(site, 4).axes[0], None, None))
    out = shape_rules.pad(site, x, [0, 0, 0, 0, 1, 2])
    assert out[1][1:5].tolist() == [0, 1, 2, 3]
    assert len(set(out[1].tolist())) == 7


def test_concatenation_of_channels_and_constants():
    site = at((2, 5))
    x = Followed((2, 3), (None, new(site, 3).axes[0]))
    out = shape_rules.concatenation(site, [fixed(2, 2), x], -1)
    assert out[1][2:].tolist() == [0, 1, 2] and len(out[1]) == 5


def test_a_merge_repeats_and_a_split_undoes_it():
    site = at((2, 12))
    x = Followed((2, 3, 4), (None, new(site, 3).axes[0], None))
    merged = shape_rules.reshape(site, x)
    assert merged[1].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    split = shape_rules.reshape(Site(site.channels, "view", "", (2, 3, 4)), Followed((2, 12), merged))
    assert split[1].tolist() == [0, 1, 2] and split[2] is None
    assert site.channels.roots(merged[1]).tolist() == merged[1].tolist()


def test_a_split_makes_each_head_one_channel():
    site = at((2, 5, 3, 4))
    out = shape_rules.reshape(site, Followed((2, 5, 12), (None, None, new(site, 12).axes[0])))
    roots = site.channels.roots(np.arange(12))
    assert roots.tolist() == [0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8]
    assert site.channels.roots(out[2]).tolist() == [0, 4, 8] and out[3] is None


def test_a_reshape_that_mixes_two_axes_of_channels_keeps_both():
    site = at((12,))
    x = new(site, 3, 4)
    assert shape_rules.reshape(site, x) == (None,)
    site.channels.produce(x.axes[0])
    assert site.channels.groups() == ()


def test_permute_transpose_and_unsqueeze_move_axes():
    site = at(())
    x = new(site, 2, 3, 4)
    assert [len(axis) for axis in shape_rules.permute(site, x, [2, 0, 1])] == [4, 2, 3]
    assert [len(axis) for axis in shape_rules.transpose(site, x, 0, -1)] == [4, 3, 2]
    assert shape_rules.unsqueeze(site, x, -1)[3] is None


def test_prelu_with_one_slope_keeps_it():
    site = at((2, 8))
    x, slope = Followed((2, 8), (None, new(site, 8).axes[0])), new(site, 1)
    assert layer_rules.prelu(site, x, slope) is x.axes


def test_every_rule_is_reached_by_a_torch_operator():
    assert [name for name in RULES if not hasattr(torch.ops.aten, name)] == []
