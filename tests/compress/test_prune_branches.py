import copy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional

from compress.model_size import measure_size
from compress.prune import Prune
from compress.prune.blocks import Absent, Block, skip
from compress.prune.branches import Branch, branches_of, offered_together
from compress.prune.channels import together
from compress.prune.choose.cost import macs_cost
from compress.prune.choose.search import rank
from compress.prune.compose import compose
from compress.prune.exactness import check
from compress.prune.follow import follow
from compress.prune.importance.rating import branches_by_channels
from compress.prune.plan import PrunePlan, apply
from examples.cifar10.cifar_inception import CifarInception
from export.calling import call
from export.errors import InputError
from export.to_onnx import to_onnx
from tests.compress import prune_models as models
from tests.compress.test_prune_step import pruned


def convolution(inputs, outputs, kernel):
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.BatchNorm2d(outputs), nn.ReLU())


class Fire(nn.Module):
    """Activations of their own behind the convolutions, as in SqueezeNet; the last one in place."""

    def __init__(self):
        super().__init__()
        self.squeeze = nn.Conv2d(3, 8, 1)
        self.one, self.one_activation = nn.Conv2d(8, 8, 1), nn.ReLU()
        self.three, self.three_activation = nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(inplace=True)
        self.linear = nn.Linear(24, 5)

    def forward(self, x):
        x = functional.relu(self.squeeze(x))
        y = torch.cat([self.one_activation(self.one(x)), self.three_activation(self.three(x))], 1)
        return self.linear(y.mean((2, 3)))


class Functional(nn.Module):
    """Branches of several modules, pooled by functions, as in torchvision's Inception; a concatenation in a concatenation."""

    def __init__(self):
        super().__init__()
        self.stem = convolution(3, 8, 3)
        self.one = convolution(8, 8, 1)
        self.five_1, self.five_2 = convolution(8, 4, 1), convolution(4, 8, 3)
        self.pool = nn.MaxPool2d(3, 1, 1)
        self.pooled = convolution(8, 8, 1)
        self.split, self.left, self.right = convolution(8, 4, 1), convolution(4, 8, 1), convolution(4, 8, 3)
        self.linear = nn.Linear(40, 5)

    def forward(self, x):
        x = self.stem(x)
        five = self.five_2(functional.avg_pool2d(self.five_1(x), 3, 1, 1))
        split = self.split(x)
        both = torch.cat((self.left(split), self.right(split)), dim=-3)
        y = torch.cat([self.one(x), five, self.pooled(self.pool(x)), both], dim=1)
        return self.linear(y.mean((2, 3)))


class DenseBlock(nn.Module):
    """Every layer reads all before it, behind a norm, and several concatenations read each."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8 + 8 * number) for number in range(3))
        self.layers = nn.ModuleList(nn.Conv2d(8 + 8 * number, 8, 3, padding=1) for number in range(3))
        self.linear = nn.Linear(32, 5)

    def forward(self, x):
        features = [self.stem(x)]
        for norm, layer in zip(self.norms, self.layers, strict=True):
            features.append(layer(functional.relu(norm(torch.cat(features, 1)))))
        return self.linear(torch.cat(features, 1).mean((2, 3)))


class NoBranches(nn.Module):
    """Read elsewhere too, added to a stream that stays, without weights, all of a concatenation."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.read, self.added, self.alone = (nn.Conv2d(8, 8, 1) for _ in range(3))
        self.pool = nn.MaxPool2d(3, 1, 1)
        self.linear, self.other, self.last = nn.Linear(24, 5), nn.Linear(8, 5), nn.Linear(8, 5)

    def forward(self, x):
        x = self.stem(x)
        read = self.read(x)
        y = torch.cat([read, self.added(x) + x, self.pool(x)], 1)
        alone = torch.cat([self.alone(x)], 1)
        return self.linear(y.mean((2, 3))) + self.other(read.mean((2, 3))) + self.last(alone.mean((2, 3)))


def inception():
    return CifarInception(((1, 1), (2, 1)))


IMAGES = {"image": torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))}


def found_in(model, inputs):
    return branches_of(model, inputs, together(follow(model, inputs).groups), [inputs])


def by_path(model, inputs):
    return {branch.block.path: branch for branch in found_in(model, inputs)}


def test_all_branches_of_an_inception_are_found_and_proven():
    model = models.made(inception)
    found = by_path(model, IMAGES)
    branches = ["one", "three", "five", "pooled"]
    assert list(found) == [f"blocks.{place}.{name}" for place in (1, 3) for name in branches]
    assert {len(branch.groups) for branch in found.values()} == {4, 8, 2, 16}
    both = [found["blocks.1.five"], found["blocks.3.three"]]
    plan = PrunePlan.of(model, [group for each in both for group in each.groups], [each.block for each in both])
    assert plan.skipped == plan.branches == ("blocks.1.five", "blocks.3.three")
    assert not any(cut.tensor.startswith(plan.branches) for cut in plan.cuts)
    assert PrunePlan.from_json(plan.to_json()) == plan
    assert check(model, plan, [IMAGES]).refusal is None


def test_a_branch_of_several_modules_goes_with_all_that_works_for_it_alone():
    fire = by_path(models.made(Fire), models.images())
    assert [each.block.feeding for each in fire.values()] == [("one",), ("three",)]
    assert list(fire) == ["one_activation", "three_activation"]
    found = {path: each.block.feeding for path, each in by_path(models.made(Functional), models.images()).items()}
    assert found["pooled"] == ("pool",) and found["one"] == found["left"] == ()
    assert found["five_2"] == ()  # what pools between them would fail without five_1
    assert found["right"] == ("split", "left")  # both operands of the inner concatenation, as one of the outer


def test_a_layer_that_many_concatenations_read_goes_out_of_all():
    model, inputs = models.made(DenseBlock), models.images()
    found = by_path(model, inputs)
    assert list(found) == ["layers.0", "layers.1", "layers.2"]
    assert [len(found[f"layers.{number}"].joined) for number in range(3)] == [3, 2, 1]
    branch = found["layers.0"]
    plan = PrunePlan.of(model, branch.groups, [branch.block])
    apply(model, plan)
    assert [layer.in_channels for layer in model.layers[1:]] == [8, 16] and model.linear.in_features == 24
    assert [norm.num_features for norm in model.norms] == [8, 8, 16]


def test_what_is_no_branch():
    assert found_in(models.made(NoBranches), models.images()) == ()
    assert found_in(models.made(models.PaddedResNet), models.images()) == ()


def test_of_no_concatenation_all_operands_are_offered():
    def branch(path, *joined):
        return Branch(Block(path, is_branch=True), (), frozenset(joined))

    three = [branch(path, (0, 3)) for path in "abc"]
    assert offered_together(three, [1.0, 3.0, 2.0]) == [0, 2]
    assert offered_together(three[:2], [1.0, 3.0]) == [0, 1]
    several = [branch("a", (0, 2), (1, 2)), branch("b", (0, 2)), branch("c", (1, 2))]
    assert offered_together(several, [3.0, 1.0, 1.0]) == [1, 2]


def test_the_step_takes_out_branches_and_rebuilds_the_model(tmp_path: Path):
    step = Prune(macs_ratio=1.6, multiple_of=8, depth=True, importance="obs")  # no width of this one is above 16
    result = pruned(step, inception, IMAGES, tmp_path)
    gone = result.facts["skipped_blocks"]
    assert gone and all(path.split(".")[-1] in ("one", "three", "five", "pooled") for path in gone)
    assert result.facts["macs"]["ratio"] >= 1.6 and result.facts["exactness"] <= 1e-4
    assert all(isinstance(result.model.get_submodule(path), Absent) for path in gone)
    restored = step.restore(models.made(inception), tmp_path)
    restored.load_state_dict(result.model.state_dict(), strict=True)
    assert torch.equal(call(restored, IMAGES)[0], call(result.model, IMAGES)[0])
    excluded = Prune(macs_ratio=1.2, multiple_of=8, depth=True, importance="obs", exclude=(f"{gone[0]}.*",))
    assert gone[0] not in pruned(excluded, inception, IMAGES, tmp_path).facts.get("skipped_blocks", [])


def test_by_the_rise_of_the_loss_and_in_rounds(tmp_path: Path):
    step = Prune(macs_ratio=2.0, multiple_of=8, depth=True, importance="fisher", rounds=2)
    result = pruned(step, inception, IMAGES, tmp_path)
    assert result.facts["skipped_blocks"] and result.facts["macs"]["ratio"] >= 2.0
    restored = step.restore(models.made(inception), tmp_path)
    restored.load_state_dict(result.model.state_dict(), strict=True)
    assert torch.equal(call(restored, IMAGES)[0], call(result.model, IMAGES)[0])


def test_one_plan_after_another():
    model = models.made(inception)
    original = copy.deepcopy(model)
    plans = []
    for path in ("blocks.1.five", "blocks.3.pooled"):
        branch = by_path(model, IMAGES)[path]
        plans.append(PrunePlan.of(model, branch.groups, [branch.block]))
        apply(model, plans[-1])
    apply(original, compose(*plans))
    original.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(call(original, IMAGES)[0], call(model, IMAGES)[0])


def test_the_cost_of_a_model_without_a_branch_is_that_of_the_cut_model():
    model = models.made(inception)
    branches = found_in(model, IMAGES)
    following = follow(model, IMAGES)
    whole = {axes for branch in branches for axes in branch.empties}
    families, _ = rank(model, following, lambda groups: np.arange(len(groups)), lambda _: 0.75, 1, whole)
    cost = macs_cost(model, families, [branch.block for branch in branches], IMAGES)
    for place, branch in enumerate(branches):
        counts = np.array([[len(each.groups) * (each.axes in branch.empties) for each in families]])
        skipped = np.arange(len(branches))[None] == place
        cut = copy.deepcopy(model)
        apply(cut, PrunePlan.of(model, branch.groups, [branch.block]))
        assert cost(counts, skipped) == measure_size(cut, IMAGES).macs


def test_a_branch_is_worth_what_its_readers_lose():
    model, inputs = models.made(Fire), models.images()
    branches = found_in(model, inputs)
    rated = branches_by_channels(branches, lambda family: np.full(len(family), 0.5))
    assert [(each.block.path, each.loss) for each in rated] == [("one_activation", 4.0)]  # the dearer one stays


def test_in_onnx_a_concatenation_does_without_it(tmp_path: Path):
    model = models.made(inception).eval()
    branch = by_path(model, IMAGES)["blocks.1.five"]
    apply(model, PrunePlan.of(model, branch.groups, [branch.block]))
    to_onnx(model, IMAGES, {"image": {0: "batch"}}, ["logits"], tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert sorted(len(node.input) for node in graph.node if node.op_type == "Concat") == [3, 4]
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    found = session.run(None, {"image": IMAGES["image"].repeat(2, 1, 1, 1).numpy()})[0]
    expected = call(model, {"image": IMAGES["image"].repeat(2, 1, 1, 1)})[0].detach().numpy()
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_a_branch_that_the_model_lacks_is_refused():
    with pytest.raises(InputError, match="pruning plan: 'elsewhere': the model has no such block"):
        skip(models.made(Fire), [Block("one_activation", is_branch=True, feeding=("elsewhere",))])
