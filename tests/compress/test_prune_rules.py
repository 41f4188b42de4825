"""Every rule alone, on hand-numbered channels: ids are 0, 1, 2, ... in the order in which axes are made."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from compress.prune.channels import Channels
from compress.prune.follow import attention_rules, follow, layer_rules, norm_rules, regroup_rules, shape_rules
from compress.prune.follow.rules import RULES
from compress.prune.follow.site import Followed, Site
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
        lambda x: x.T.contiguous().T,
        lambda x: x.unsqueeze(-1).expand(-1, -1, 4).mean(-1),
        lambda x: x.view(-1, 8, 1, 1).flatten(1),
        lambda x: x[:],
        lambda x: x + x.mean(0)[:, None].expand(8, 3).t(),
        lambda x: x * x.unsqueeze(0).squeeze(),
        lambda x: x + x.sum(1, keepdim=True),
        lambda x: F.normalize(x, dim=1),
        lambda x: x / (1 + x.abs()),
        lambda x: torch.stack([x, x], 0).unbind(0)[1],
        lambda x: x.repeat(2, 1)[:3],
        lambda x: x.repeat_interleave(2, 0)[:3],
        lambda x: x.roll(1, 0).flip(0),
        lambda x: torch.cat(x.split(4, 1), 1),
        lambda x: torch.movedim(x.unsqueeze(0), 2, 0).movedim(0, -1).squeeze(0),
        lambda x: torch.einsum("bi,ci->bc", x, x) @ x,
        lambda x: x[torch.tensor([2, 0, 1])],
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
        (lambda x: torch.sort(x, -1).values, {}, "sort: no rule follows channels through it"),
        (lambda x: F.pad(x, (-1, 0)), {"read": 7}, "pad: padding with mode=constant, -1 before and 0 after"),
        (lambda x: F.pad(x, (1, 1), mode="replicate"), {"read": 10}, "pad: padding with mode=replicate"),
        (lambda x: torch.cat(x.chunk(3, 1), 1), {}, "chunk: 8 channels do not make 3 equal chunks"),
        (lambda x: F.group_norm(x, 2), {}, "group_norm: the number of groups, 2, stands in the code"),
        (lambda x: F.group_norm(x, 1), {}, "group_norm: it normalises over the channels"),
        (lambda x: F.rms_norm(x, (8,)), {}, "rms_norm: it normalises over the channels, and is no nn.RMSNorm whose"),
        (lambda x: torch.cat(x.split([3, 5], 1), 1), {}, "split_with_sizes: parts of 3, 5 channels stand in the code"),
        (lambda x: x.roll(1, 1), {}, "roll: it moves channels by their position"),
        (lambda x: x.flip(-1), {}, "flip: it moves channels by their position"),
        (lambda x: x.index_select(1, torch.arange(8)), {}, "index_select: it takes channels by their position"),
        (lambda x: x[:, torch.arange(8)], {}, "index: it takes channels by their position"),
        (lambda x: x.gather(1, torch.zeros(3, 8).long()), {}, "gather: no rule follows channels through it"),
        (lambda x: x.unbind(1)[0].unsqueeze(1), {"read": 1}, "unbind: it takes a channel by its position"),
        (lambda x: torch.ones(8) / x, {}, "div: it would divide by zero"),
        (lambda x: x**-1.0, {}, "pow: zero may not be raised to it"),
        (lambda x: x.rsqrt(), {}, "rsqrt: it is infinite at zero"),
        (lambda x: x.sigmoid().sum(1, keepdim=True), {"read": 1}, "sum: it sums over channels that need not be zero"),
        (lambda x: x.sigmoid() @ x.sigmoid().t(), {"read": 3}, "matmul: it sums over channels that need not be zero"),
        (lambda x: torch.einsum("bi,ci->bc", x.exp(), x.exp()), {"read": 3}, "einsum: it sums over channels that need"),
    ],
)
def test_channels_stay_with_a_reason(operation, sizes, reason):
    assert left_alone(operation, **sizes).startswith(f"8 of 8 channels stay: {reason}")


def test_a_group_of_a_convolution_goes_with_its_inputs():
    site = at((2, 6, 4, 4))
    x, weight, bias = new(site, 2, 4, 4, 4), new(site, 6, 2, 3, 3), new(site, 6)
    out = layer_rules.convolution(site, Followed(x.shape, (None, x.axes[1], None, None)), weight, bias, 1, 1, 1, 2)
    roots = site.channels.roots
    first, second = roots(x.axes[1])[[0, 2]].tolist()
    assert roots(x.axes[1]).tolist() == [first, first, second, second]
    assert roots(out[1]).tolist() == roots(bias.axes[0]).tolist() == [first] * 3 + [second] * 3


def test_a_group_of_a_transposed_convolution_goes_with_its_inputs():
    site = at((2, 6, 8, 8))
    x, weight, bias = new(site, 2, 4, 4, 4), new(site, 4, 3, 2, 2), new(site, 6)
    out = layer_rules.transposed_convolution(site, x, weight, bias, 2, 0, 0, 2)
    roots = site.channels.roots
    first, second = roots(weight.axes[0])[[0, 2]].tolist()
    assert roots(x.axes[1]).tolist() == [first, first, second, second]
    assert roots(out[1]).tolist() == roots(bias.axes[0]).tolist() == [first] * 3 + [second] * 3


def test_group_norm_takes_whole_groups():
    norm = nn.GroupNorm(2, 6)
    site = Site(Channels(), "group_norm", "", (2, 6, 4, 4), norm)
    x, weight, bias = Followed((2, 6, 4, 4), (None, new(site, 6).axes[0], None, None)), new(site, 6), new(site, 6)
    out = norm_rules.group_norm(site, x, 2, weight, bias, 1e-5, True)
    assert site.channels.roots(out[1]).tolist() == [0, 0, 0, 3, 3, 3]


def test_pixel_shuffle_makes_one_channel_of_four_and_unshuffle_four_of_one():
    site = at((2, 3, 8, 8))
    x = Followed((2, 12, 4, 4), (None, new(site, 12).axes[0], None, None))
    out = regroup_rules.pixel_shuffle(site, x, 2)
    assert site.channels.roots(np.arange(12)).tolist() == [0] * 4 + [4] * 4 + [8] * 4
    assert out[1].tolist() == [0, 4, 8]
    back = regroup_rules.pixel_unshuffle(site, Followed((2, 3, 8, 8), out), 2)
    assert back[1].tolist() == [0] * 4 + [4] * 4 + [8] * 4


def test_channel_shuffle_takes_a_column_of_all_groups():
    site = at((2, 6, 4, 4))  # rows 0 1 2 and 3 4 5 become 0 3, 1 4, 2 5
    out = regroup_rules.channel_shuffle(site, Followed((2, 6, 4, 4), (None, new(site, 6).axes[0], None, None)), 2)
    assert site.channels.roots(out[1]).tolist() == [0, 0, 1, 1, 2, 2]


def test_einsum_joins_axes_of_one_letter():
    site = at((2, 5))
    a, b = new(site, 2, 3), new(site, 5, 3)
    out = attention_rules.einsum(site, "bi,oi->bo", [Followed(a.shape, a.axes, silent=True), b])
    assert (site.channels.roots(a.axes[1]) == site.channels.roots(b.axes[1])).all()
    assert (out[0] == a.axes[0]).all() and (out[1] == b.axes[0]).all()


def test_heads_of_keys_go_with_all_queries_that_they_serve():
    site = at((2, 4, 7, 3))
    query, key, value = (
        Followed((2, heads, 7, 3), (None, new(site, heads).axes[0], None, None)) for heads in (4, 2, 2)
    )
    attention_rules.attention(site, query, key, value, enable_gqa=True)
    roots = site.channels.roots
    assert roots(query.axes[1]).tolist() == np.repeat(roots(key.axes[1]), 2).tolist()
    assert roots(value.axes[1]).tolist() == roots(key.axes[1]).tolist()


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
    out = attention_rules.matmul(site, a, b)
    roots = site.channels.roots
    assert (roots(a.axes[2]) == roots(b.axes[1])).all()
    assert (roots(a.axes[0]) == roots(b.axes[0])).all()
    assert (out[1] == a.axes[1]).all() and (out[2] == b.axes[2]).all()


def test_attention_keeps_the_width_of_heads_and_ties_heads():
    site = at((2, 4, 7, 3))
    query, key, value = (
        Followed((2, 4, 7, 3), (None, new(site, 4).axes[0], None, new(site, 3).axes[0])) for _ in "qkv"
    )
    out = attention_rules.attention(site, query, key, value, None)
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
    merged = regroup_rules.reshape(site, x)
    assert merged[1].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    split = regroup_rules.reshape(Site(site.channels, "view", "", (2, 3, 4)), Followed((2, 12), merged))
    assert split[1].tolist() == [0, 1, 2] and split[2] is None
    assert site.channels.roots(merged[1]).tolist() == merged[1].tolist()


def test_a_split_makes_each_head_one_channel():
    site = at((2, 5, 3, 4))
    out = regroup_rules.reshape(site, Followed((2, 5, 12), (None, None, new(site, 12).axes[0])))
    roots = site.channels.roots(np.arange(12))
    assert roots.tolist() == [0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8]
    assert site.channels.roots(out[2]).tolist() == [0, 4, 8] and out[3] is None


def test_a_reshape_that_mixes_two_axes_of_channels_keeps_both():
    site = at((12,))
    x = new(site, 3, 4)
    assert regroup_rules.reshape(site, x) == (None,)
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


def test_the_axis_of_a_single_channel_may_be_taken_away():
    """As a model of one number reshapes its (batch, 1) to (batch)."""

    class Scalar(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.last = nn.Linear(6, 8), nn.Linear(8, 1), nn.Linear(1, 5)

        def forward(self, x):
            return self.last(self.second(F.relu(self.first(x))).reshape(-1)[:, None])

    following = follow(models.made(Scalar), models.rows())
    assert {each.where for each in following.left_alone} == {"second", "last"}
    assert len(following.groups) == 8
