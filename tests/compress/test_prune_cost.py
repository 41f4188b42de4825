import copy

import numpy as np
import pytest
import torch

from compress.model_size import measure_size
from compress.prune.blocks import Block, blocks_of
from compress.prune.choose.cost import channels_cost, macs_cost
from compress.prune.choose.search import rank
from compress.prune.choose.select import Selection
from compress.prune.follow import follow
from compress.prune.plan import PrunePlan, apply
from compress.prune.products import products
from tests.compress import prune_models as models


def families_of(model, inputs):
    families, _ = rank(model, follow(model, inputs), lambda groups: np.arange(len(groups)), lambda _: 0.75, 1)
    return families


def random_counts(families, generator):
    return tuple(int(generator.choice(family.counts)) for family in families)


@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        (models.PaddedResNet, models.images()),
        (models.ProjectedBlock, models.images()),
        (models.Vgg, models.images()),
        (models.Mobile, models.images()),
        (models.Dense, models.images()),
        (models.Attention, models.tokens()),
        (lambda: models.Bert("sdpa"), models.sentences()),
    ],
)
def test_predicted_macs_are_those_of_the_cut_model(make, inputs):
    if "input_ids" in inputs:
        pytest.importorskip("transformers")
    model = models.made(make)
    families = families_of(model, inputs)
    cost = macs_cost(model, families, (), inputs)
    generator = np.random.default_rng(0)
    none = np.zeros((1, 0), bool)
    assert cost(np.zeros((1, len(families)), int), none) == measure_size(model, inputs).macs
    for _ in range(2):
        counts = random_counts(families, generator)
        cut = copy.deepcopy(model)
        apply(cut, PrunePlan.of(model, Selection(counts).groups(families)))
        assert cost(np.array([counts]), none) == measure_size(cut, inputs).macs


def test_a_skipped_block_costs_nothing_whatever_its_families():
    model, inputs = models.made(models.PaddedResNet), models.images()
    families, block = families_of(model, inputs), Block("one")
    assert block in blocks_of(model, inputs)
    cost = macs_cost(model, families, [block], inputs)
    counts = np.array([[family.counts[-1] if k else 0 for family in families] for k in (0, 1)])
    cut = copy.deepcopy(model)
    apply(cut, PrunePlan.of(model, (), [block]))
    assert cost(counts[:1], np.array([[True]])) == measure_size(cut, inputs).macs
    apply(cut := copy.deepcopy(model), PrunePlan.of(model, Selection(tuple(counts[1])).groups(families), [block]))
    assert cost(counts[1:], np.array([[True]])) == measure_size(cut, inputs).macs


def test_channels_count_heads_by_their_width_and_skipped_ones_as_gone():
    model, inputs = models.made(models.Attention), models.tokens()
    families = families_of(model, inputs)
    cost = channels_cost(families, (), fixed=3.0)
    widths = [len(family.groups[0].slices[0].indices) for family in families]
    left = [(len(family.groups) - 1) * width for family, width in zip(families, widths, strict=True)]
    assert cost(np.ones((1, len(families)), int), np.zeros((1, 0), bool)) == sum(left) + 3.0
    resnet = models.made(models.PaddedResNet)
    families = families_of(resnet, models.images())
    [inside] = [
        i for i, family in enumerate(families) if all("one." in tensor for tensor, _ in family.groups[0].family)
    ]
    cost, nothing = channels_cost(families, [Block("one")]), np.zeros((1, len(families)), int)
    saved = cost(nothing, np.array([[False]])) - cost(nothing, np.array([[True]]))
    assert saved == len(families[inside].groups)


def test_products_tell_what_each_layer_reads_and_makes():
    class Both(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1)
            self.up = torch.nn.ConvTranspose2d(8, 4, 2, stride=2)
            self.linear, self.plain = torch.nn.Linear(4, 5), torch.nn.Parameter(torch.randn(5, 6))

        def forward(self, x):
            return self.linear(self.up(self.conv(x)).mean((2, 3))) @ self.plain

    found = products(models.made(Both), models.images())
    assert [(each.weight, each.inputs, each.outputs, each.axes) for each in found] == [
        ("conv.weight", 3, 8, (0, 1)),
        ("up.weight", 8, 4, (1, 0)),
        ("linear.weight", 4, 5, (0, 1)),
        ("plain", 5, 6, (1, 0)),
    ]
    assert found[0].window.stride == (2, 2) and found[0].activations == (2, 3, 8, 8)
    assert [each.module for each in found] == ["conv", "up", "linear", ""]
