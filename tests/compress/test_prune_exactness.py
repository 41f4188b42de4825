"""The property that pruning stands on: pruned(x) equals original(x) with the removed slices at zero."""

import random

import pytest
import torch
from torch import nn

from compress.prune.channels import Group, Slice
from compress.prune.exactness import TOLERANCE, check, keep_exact, other_inputs, relative_difference, zero
from compress.prune.follow import follow
from compress.prune.plan import Cut, PrunePlan
from tests.compress import prune_models as models

ARCHITECTURES = [
    (models.PaddedResNet, models.images),
    (models.ProjectedBlock, models.images),
    (models.Vgg, models.images),
    (models.Mobile, models.images),
    (models.Dense, models.images),
    (models.Gated, models.rows),
    (models.Attention, models.tokens),
    (models.Sorted, models.rows),
    (lambda: models.Bert("sdpa"), models.sentences),
    (lambda: models.Bert("eager"), models.sentences),
]


def families_of(following):
    families = {}
    for group in following.groups:
        families.setdefault(group.family, []).append(group)
    return list(families.values())


@pytest.mark.parametrize(("make", "inputs"), ARCHITECTURES)
def test_random_removals_are_exact(make, inputs):
    model, batch = models.made(make), inputs()
    families = families_of(follow(model, batch))
    assert families
    for seed in range(4):
        choose = random.Random(seed)
        chosen = [group for family in families for group in choose.sample(family, choose.randrange(len(family)))]
        verdict = check(model, PrunePlan.of(model, chosen), [batch, other_inputs(batch, seed)])
        assert verdict.refusal is None
        assert verdict.difference <= TOLERANCE


def test_zero_sets_exactly_the_removed_slices():
    model = nn.Sequential(nn.Linear(3, 3, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.arange(1.0, 10.0).reshape(3, 3))
    zero(model, PrunePlan((Cut("0.weight", 0, 3, (1,)), Cut("0.weight", 1, 3, (2,)))))
    assert model[0].weight.tolist() == [[1, 2, 0], [0, 0, 0], [7, 8, 0]]


def test_a_cut_that_changes_the_answer_is_refused():
    model = models.made(lambda: nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.Linear(4, 2)))
    norm = [Slice(f"1.{name}", 0, (0,)) for name in ("weight", "bias")]
    group = Group((Slice("0.weight", 0, (0,)), Slice("0.bias", 0, (0,)), *norm, Slice("2.weight", 1, (0,))))
    model[1].normalized_shape = (3,)  # as if the code had followed the cut
    plan = PrunePlan.of(model, [group])
    verdict = check(Normalising(model), prefixed(plan), [models.rows()])
    assert verdict.refusal is not None
    assert verdict.refusal.startswith("the output changes by ") and "(allowed: 1e-04)" in verdict.refusal


class Normalising(nn.Module):
    """Normalises over however many channels there are."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, x):
        hidden = self.layers[0](x)
        norm = self.layers[1]
        return self.layers[2](nn.functional.layer_norm(hidden, hidden.shape[-1:], norm.weight, norm.bias))


def prefixed(plan):
    return PrunePlan(tuple(Cut(f"layers.{cut.tensor}", cut.dim, cut.size, cut.removed) for cut in plan.cuts))


def test_a_forward_that_breaks_is_refused_with_its_own_words():
    model = models.made(models.BakedWidth)
    group = follow(model, models.rows()).groups[0]
    refusal = check(model, PrunePlan.of(model, [group]), [models.rows()]).refusal
    assert refusal is not None and refusal.startswith("forward fails without them: RuntimeError: shape '[-1, 16]'")


def test_an_output_of_another_shape_is_refused():
    model = models.made(lambda: nn.Linear(6, 4))
    verdict = check(model, PrunePlan((Cut("weight", 0, 4, (1,)), Cut("bias", 0, 4, (1,)))), [models.rows()])
    assert verdict.refusal == "the output's shape changes without them"


def test_the_check_leaves_the_model_as_it_was():
    model = models.made(models.PaddedResNet)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    check(model, PrunePlan.of(model, follow(model, models.images()).groups[:3]), [models.images()])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_culprits_are_found_among_good_families():
    model = models.made(models.BakedWidth)
    families = [family[:1] for family in families_of(follow(model, models.rows()))]
    kept, refused = keep_exact(model, families, [models.rows()])
    assert [family[0].slices[0].tensor for family in kept] == ["middle.weight"]
    assert [each.groups[0].slices[0].tensor for each in refused] == ["baked.weight"]
    assert "forward fails without them" in refused[0].reason


def test_relative_difference_is_to_the_largest_value():
    assert relative_difference(torch.tensor([1.0, -4.0]), torch.tensor([1.5, -4.0])) == pytest.approx(0.5 / 4)
    assert relative_difference(torch.zeros(2), torch.zeros(2)) == 0.0
    assert relative_difference(torch.tensor([float("nan")]), torch.ones(1)) == float("inf")


def test_other_inputs_differ_where_they_can():
    inputs = {"x": torch.randn(4, 50) * 3 + 1, "ids": torch.arange(8).reshape(4, 2)}
    other = other_inputs(inputs, 0)
    assert not torch.equal(other["x"], inputs["x"])
    assert float(other["x"].std()) == pytest.approx(float(inputs["x"].std()), rel=0.3)
    assert other["ids"].tolist() == [[6, 7], [0, 1], [2, 3], [4, 5]]
