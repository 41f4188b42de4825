"""Expected groups are worked out by hand from each architecture's definition."""

import pytest
import torch
from torch import nn

from compress.prune.channels import LeftAlone, Slice
from compress.prune.follow import follow
from export.errors import InputError, UnsupportedError
from tests.compress import prune_models as models


def groups_of(model, inputs, **options):
    return {group.slices[0].tensor: group for group in reversed(follow(model, inputs, **options).groups)}


def reason_of(model, inputs, where):
    return next(each.reason for each in follow(model, inputs).left_alone if each.where == where)


def test_a_residual_stream_goes_through_the_zero_padding_with_its_channels_shifted():
    following = follow(models.made(models.PaddedResNet), models.images())
    streams = [
        group for group in following.groups if Slice("linear.weight", 1, group.slices[-1].indices) in group.slices
    ]
    assert len(streams) == 8
    for channel, group in enumerate(streams):
        here, shifted = (channel,), (channel + 4,)  # 8 -> 16 channels: 4 zeros before, 4 after
        for tensor, dim, indices in [
            ("conv.weight", 0, here),
            ("bn.running_var", 0, here),
            ("one.conv1.weight", 1, here),
            ("one.conv2.weight", 0, here),
            ("two.conv1.weight", 1, here),
            ("two.conv2.weight", 0, shifted),
            ("two.bn2.bias", 0, shifted),
            ("linear.weight", 1, shifted),
        ]:
            assert Slice(tensor, dim, indices) in group.slices


def test_padded_positions_stay_and_are_named():
    reason = reason_of(models.made(models.PaddedResNet), models.images(), "two.conv2")
    assert reason == "8 of 16 channels stay: pad in two: padding adds constant channels"


def test_inner_channels_of_a_block_are_its_own():
    group = groups_of(models.made(models.PaddedResNet), models.images())["two.conv1.weight"]
    assert {(piece.tensor, piece.dim) for piece in group.slices} == {
        ("two.conv1.weight", 0),
        ("two.bn1.weight", 0),
        ("two.bn1.bias", 0),
        ("two.bn1.running_mean", 0),
        ("two.bn1.running_var", 0),
        ("two.conv2.weight", 1),
    }


def test_a_projected_shortcut_ties_both_branches():
    following = follow(models.made(models.ProjectedBlock), models.images())
    tied = [group for group in following.groups if Slice("down.weight", 0, (3,)) in group.slices]
    assert len(tied) == 1
    assert {Slice("conv2.weight", 0, (3,)), Slice("linear.weight", 1, (3,))} <= set(tied[0].slices)
    assert len(following.groups) == 8 + 12 + 16


def test_flatten_gives_each_channel_all_its_positions():
    group = follow(models.made(models.Vgg), models.images()).groups[8 + 2]
    assert Slice("features.4.weight", 0, (2,)) in group.slices
    assert Slice("classifier.0.weight", 1, tuple(range(2 * 16, 3 * 16))) in group.slices


def test_depthwise_and_squeeze_and_excite_follow_their_channel():
    group = groups_of(models.made(models.Mobile), models.images())["expand.weight"]
    assert {(piece.tensor, piece.dim) for piece in group.slices} >= {
        ("depthwise.weight", 0),
        ("squeeze.weight", 1),
        ("excite.weight", 0),
        ("project.weight", 1),
    }


def test_concatenation_shifts_the_second_part():
    following = follow(models.made(models.Dense), models.images())
    group = next(group for group in following.groups if group.slices[0] == Slice("right.weight", 0, (2,)))
    assert {Slice("bn.weight", 0, (8,)), Slice("conv.weight", 1, (8,)), Slice("head.weight", 1, (8,))} <= set(
        group.slices
    )


def test_two_chunks_lose_the_same_place():
    group = follow(models.made(models.Gated), models.rows()).groups[3]
    assert Slice("up.weight", 0, (3, 11)) in group.slices
    assert {Slice("gate.weight", 0, (3,)), Slice("down.weight", 1, (3,))} <= set(group.slices)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_bert_gives_whole_heads_and_single_neurons(implementation):
    pytest.importorskip("transformers")
    model = models.made(lambda: models.Bert(implementation))
    following = follow(model, models.sentences())
    assert len(following.groups) == 2 * (4 + 24)
    head, neuron = following.groups[1], following.groups[4]
    attention, layer = "bert.encoder.layer.0.attention", "bert.encoder.layer.0"
    assert set(head.slices) == {
        Slice(f"{attention}.self.{name}.{part}", 0, (4, 5, 6, 7))
        for name in ("query", "key", "value")
        for part in ("weight", "bias")
    } | {Slice(f"{attention}.output.dense.weight", 1, (4, 5, 6, 7))}
    assert set(neuron.slices) == {
        Slice(f"{layer}.intermediate.dense.weight", 0, (0,)),
        Slice(f"{layer}.intermediate.dense.bias", 0, (0,)),
        Slice(f"{layer}.output.dense.weight", 1, (0,)),
    }
    reason = reason_of(model, models.sentences(), f"{layer}.output.dense")
    assert reason.startswith("16 of 16 channels stay: layer_norm in bert.embeddings.LayerNorm: it normalises over the")


def test_what_an_operator_without_a_rule_reads_stays_and_is_named():
    following = follow(models.made(models.Sorted), models.rows())
    assert {group.slices[0].tensor for group in following.groups} == {"free.weight"}
    expected = "16 of 16 channels stay: sort: no rule follows channels through it"
    assert LeftAlone("sorted", expected) in following.left_alone


@pytest.mark.filterwarnings("ignore:The tensor attributes self.lstm")  # how torch.export traces an LSTM
def test_a_layer_without_a_rule_is_named_itself():
    class Projected(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.middle, self.out = nn.LSTM(6, 8, proj_size=4), nn.Linear(4, 16), nn.Linear(16, 5)

        def forward(self, x):
            return self.out(torch.relu(self.middle(self.lstm(x[:, None])[0][:, 0])))

    following = follow(models.made(Projected), models.rows())
    assert {group.slices[0].tensor for group in following.groups} == {"middle.weight"}
    expected = "32 of 32 channels stay: lstm in lstm: no rule follows channels through it"
    assert LeftAlone("lstm", expected) in following.left_alone


def test_attention_that_was_not_rewritten_stays():
    class Fused(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.out = nn.Linear(6, 8), nn.Linear(8, 5)
            self.attention = nn.MultiheadAttention(8, 2)

        def forward(self, x):
            y = self.first(x)
            return self.out(self.attention(y, y, y, need_weights=False)[0])

    following = follow(models.made(Fused), models.rows())
    assert following.groups == ()
    reason = next(each.reason for each in following.left_alone if each.where == "first")
    assert reason.startswith("8 of 8 channels stay: nn.MultiheadAttention checks its width; see compress.prune.rewrite")


def test_the_output_stays():
    reason = reason_of(models.made(models.Vgg), models.images(), "classifier.3")
    assert reason == "5 of 5 channels stay: they are the model's output"


def test_a_tied_weight_is_one_tensor():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.out = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.out(torch.relu(self.second(torch.relu(self.first(x)))))

    following = follow(models.made(Tied), models.rows())
    assert following.groups == ()  # the shared columns read the input, so that the shared rows must stay as well


def test_excluded_modules_keep_their_shape():
    model, inputs = models.made(models.PaddedResNet), models.images()
    assert "one.conv1.weight" in groups_of(model, inputs)
    found = groups_of(model, inputs, exclude=["one.*"])
    assert "two.conv1.weight" in found and not any(name.startswith(("one.", "conv.")) for name in found)


def test_an_exclude_pattern_that_names_nothing_is_refused():
    with pytest.raises(
        InputError, match=r"prune.exclude: 'layer1\.\*' matches no module; the model has up, down, gate"
    ):
        follow(models.made(models.Gated), models.rows(), exclude=["layer1.*"])


def test_a_model_that_cannot_be_traced_is_refused():
    class Deciding(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(
        UnsupportedError, match=r"prune: torch.export cannot trace Deciding: .*\. Channels are followed"
    ):
        follow(Deciding(), models.rows())


def test_inputs_go_by_position_where_their_names_are_not_parameters():
    assert follow(models.made(models.Gated), {"pixels": models.rows()["x"]}).groups
