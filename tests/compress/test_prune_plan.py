import copy

import pytest
import torch
from torch import nn

from compress.prune.channels import Group, Slice
from compress.prune.plan import Cut, PrunePlan, apply
from export.calling import call
from export.errors import InputError
from tests.compress import prune_models as models

CONV = Group((Slice("0.weight", 0, (1,)), Slice("0.bias", 0, (1,)), Slice("1.weight", 1, (1,))))
LAST = Group((Slice("0.weight", 0, (3,)), Slice("0.bias", 0, (3,)), Slice("1.weight", 1, (3,))))


def two_convolutions():
    return models.made(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)))


def test_a_plan_gathers_the_indices_of_its_groups():
    plan = PrunePlan.of(two_convolutions(), [LAST, CONV])
    assert plan.cuts == (
        Cut("0.bias", 0, 4, (1, 3)),
        Cut("0.weight", 0, 4, (1, 3)),
        Cut("1.weight", 1, 4, (1, 3)),
    )


def test_applying_takes_exactly_these_slices():
    model = two_convolutions()
    kept, reader = model[0].weight[[0, 2]].detach().clone(), model[1].weight[:, [0, 2]].detach().clone()
    apply(model, PrunePlan.of(model, [LAST, CONV]))
    assert torch.equal(model[0].weight, kept) and torch.equal(model[1].weight, reader)
    assert (model[0].out_channels, model[1].in_channels, model[1].out_channels) == (2, 2, 2)
    assert model(torch.zeros(1, 3, 5, 5)).shape == (1, 2, 3, 3)


def test_json_round_trip_is_exact_and_stable():
    plan = PrunePlan.of(two_convolutions(), [LAST, CONV])
    assert PrunePlan.from_json(plan.to_json()) == plan
    assert hash(PrunePlan.from_json(plan.to_json())) == hash(plan)
    assert PrunePlan.of(two_convolutions(), [CONV, LAST]).to_json() == plan.to_json()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{", "Expecting property name"),
        ('{"version": 2, "cuts": []}', "version 2, known: 1"),
        ('{"cuts": []}', "'version'"),
        ('{"version": 1, "cuts": [{"tensor": "a"}]}', "missing 3 required"),
        ('{"version": 1, "cuts": [{"tensor": "a", "dim": 0, "size": 2, "removed": [2]}]}', "impossible cut of 'a'"),
        ('{"version": 1, "skipped": "layer1", "cuts": []}', "impossible list of modules 'layer1'"),
    ],
)
def test_what_is_no_plan_is_refused(text, found):
    with pytest.raises(InputError, match=f"pruning plan: not a plan that `to_json` wrote .*{found}.*; run the prune"):
        PrunePlan.from_json(text)


def test_lists_of_modules_are_written_where_there_are_some():
    plan = PrunePlan((), skipped=("layer1", "layer2"), tuples=("layer2",), rewritten=("norm",))
    assert PrunePlan.from_json(plan.to_json()) == plan
    assert "skipped" not in PrunePlan(()).to_json()


def test_a_plan_for_another_model_is_refused_and_changes_nothing():
    model = two_convolutions()
    misfit = PrunePlan((Cut("0.weight", 0, 4, (1,)), Cut("0.gamma", 0, 4, (1,))))
    with pytest.raises(InputError, match=r"pruning plan: 0\.gamma: the model has no such tensor; apply the plan to"):
        apply(model, misfit)
    assert model[0].weight.shape[0] == 4
    wrong_size = r"pruning plan: 0\.weight: axis 0 must have 8 entries, found shape \(4, 3, 3, 3\); apply .* once"
    with pytest.raises(InputError, match=wrong_size):
        apply(model, PrunePlan((Cut("0.weight", 0, 8, (1,)),)))


def test_sizes_kept_beside_the_weights_follow():
    model = models.made(models.Mobile)
    groups = [
        Group(
            (
                Slice("expand.weight", 0, (5,)),
                Slice("expand.bias", 0, (5,)),
                Slice("depthwise.weight", 0, (5,)),
                *(Slice(f"bn.{name}", 0, (5,)) for name in ("weight", "bias", "running_mean", "running_var")),
                Slice("squeeze.weight", 1, (5,)),
                Slice("excite.weight", 0, (5,)),
                Slice("excite.bias", 0, (5,)),
                Slice("project.weight", 1, (5,)),
            )
        )
    ]
    apply(model, PrunePlan.of(model, groups))
    depthwise = model.depthwise
    assert (depthwise.in_channels, depthwise.out_channels, depthwise.groups) == (15, 15, 15)
    assert (model.bn.num_features, model.squeeze.in_channels, model.excite.out_channels) == (15, 15, 15)
    assert "15, 15, kernel_size=(3, 3)" in repr(depthwise)
    call(model, models.images())


def test_head_counts_follow_the_projections():
    model = models.made(models.Attention)
    head = [Slice(f"{name}.{part}", 0, (2, 3)) for name in ("query", "key", "value") for part in ("weight", "bias")]
    apply(model, PrunePlan.of(model, [Group((*head, Slice("out.weight", 1, (2, 3))))]))
    assert (model.num_heads, model.head_dim) == (3, 2)
    assert (model.query.out_features, model.out.in_features) == (6, 6)
    call(model, models.tokens())


def test_tied_tensors_stay_tied_and_frozen_ones_frozen():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    model[0].weight.requires_grad_(False)
    apply(model, PrunePlan((Cut("0.weight", 0, 4, (0,)), Cut("0.weight", 1, 4, (0,)), Cut("0.bias", 0, 4, (0,)))))
    assert model[0].weight is model[1].weight
    assert model[0].weight.shape == (3, 3) and not model[0].weight.requires_grad
    assert model[1].in_features == 3


def test_weights_of_a_pruned_model_load_into_the_restored_structure():
    model = two_convolutions()
    plan = PrunePlan.of(model, [CONV])
    restored = copy.deepcopy(model)
    apply(model, plan)
    apply(restored, PrunePlan.from_json(plan.to_json()))
    restored.load_state_dict(model.state_dict(), strict=True)
