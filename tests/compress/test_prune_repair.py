"""Repair against cases whose answer is known: exact recovery, numpy's lstsq, statistics of the whole set."""

import copy
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from compress.prune.channels import Group, Slice
from compress.prune.follow import follow
from compress.prune.patches import add_to_weight, inputs_at, outputs_at, shape_of
from compress.prune.plan import PrunePlan, apply
from compress.prune.repair import repair
from compress.prune.repair.batch_norms import reestimate
from compress.prune.repair.least_squares import NormalEquations, best_change
from compress.prune.replay import KeptBatches, Replay, order_of
from export.calling import call
from export.errors import InputError
from tests.compress import prune_models as models


def neurons(first, second, indices):
    return [
        Group((Slice(f"{first}.weight", 0, (c,)), Slice(f"{first}.bias", 0, (c,)), Slice(f"{second}.weight", 1, (c,))))
        for c in indices
    ]


def cut(model, groups):
    plan = PrunePlan.of(model, groups)
    pruned = copy.deepcopy(model)
    apply(pruned, plan)
    return pruned, plan


def drawn(count, *shape, seed=3, name="x"):
    generator = torch.Generator().manual_seed(seed)
    return [{name: torch.randn(*shape, generator=generator)} for _ in range(count)]


def relative(model, original, inputs):
    with torch.no_grad():
        wanted = call(original, inputs)[0]
        return float((call(model, inputs)[0] - wanted).norm() / wanted.norm())


def test_neurons_that_are_combinations_of_others_are_not_missed():
    model = models.made(lambda: nn.Sequential(nn.Linear(6, 10), nn.Linear(10, 4)))
    pruned, plan = cut(model, neurons("0", "1", (1, 4, 7)))  # seven of ten outputs of a six-dimensional input stay
    batches = drawn(4, 32, 6, name="input")
    fresh = drawn(1, 50, 6, seed=9, name="input")[0]
    assert relative(pruned, model, fresh) > 0.1
    done = repair(pruned, model, plan, batches)
    assert relative(pruned, model, fresh) < 1e-3
    assert [each.path for each in done.layers] == ["1"]  # the first layer gives what it gave
    assert done.output_error_after < 1e-5 < done.output_error_before
    assert done.layers[0].error_after < 1e-5 < done.layers[0].error_before
    assert done.seconds > 0


class Streams(nn.Module):
    """Two branches on a stream, all linear; the second can make up for what the first has lost."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(6, 8), nn.Linear(8, 6)
        self.wide, self.narrow = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        x = x + self.down(self.up(x))
        return x + self.narrow(self.wide(x))


class OneDropout(Streams):
    """One dropout behind both branches, as in the layers of transformers' DeiT: it runs before the second branch does."""

    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.1)

    def forward(self, x):
        x = x + self.dropout(self.down(self.up(x)))
        return x + self.dropout(self.narrow(self.wide(x)))


@pytest.mark.parametrize("streams", [Streams, OneDropout])
def test_a_branch_makes_up_for_what_the_stream_has_lost(streams):
    model = models.made(streams)
    pruned, plan = cut(model, neurons("up", "down", (0, 2, 3, 5)))  # four of eight stay: rank four of six
    done = repair(pruned, model, plan, drawn(4, 64, 6))
    fresh = drawn(1, 50, 6, seed=9)[0]
    assert relative(pruned, model, fresh) < 1e-3
    assert {each.path: each.error_after > 1e-4 for each in done.layers} == {
        "down": True,
        "wide": False,
        "narrow": False,
    }


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, padding=1),
        nn.Conv2d(4, 6, (3, 2), stride=2, padding=(1, 0), dilation=(1, 2), groups=2),
        nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4),
        nn.Conv2d(4, 6, 3, padding="same", padding_mode="reflect"),
        nn.Conv1d(4, 6, 5, stride=3, padding=2, dilation=2),
        nn.Linear(4, 6),
    ],
    ids=str,
)
def test_rows_times_weights_are_the_layer(layer):
    shape = {nn.Conv2d: (3, 4, 9, 11), nn.Conv1d: (3, 4, 17), nn.Linear: (3, 5, 4)}[type(layer)]
    inputs = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs = layer(inputs)
    positions = torch.randperm(outputs.numel() // len(layer.weight))[:12]
    read = inputs_at(layer, inputs, positions)
    groups, columns, width = shape_of(layer)
    assert read.shape == (12, groups, columns)
    weight = layer.weight.detach().reshape(groups, width, columns)
    product = torch.einsum("rgc,goc->rgo", read, weight).reshape(12, -1) + layer.bias.detach()
    assert product == pytest.approx(outputs_at(layer, outputs, positions), abs=1e-5)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_the_solution_is_numpys_on_unfolded_patches(groups):
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=groups, bias=False)
    images, targets = torch.randn(20, 4, 7, 7), torch.randn(20, 8, 4, 4)
    with torch.no_grad():
        missing = targets - layer(images)
    everywhere = torch.arange(20 * 16)
    sums = NormalEquations(*shape_of(layer))
    for part in torch.split(everywhere, 37):
        by_group = (len(part), groups, 8 // groups)
        rows = inputs_at(layer, images, part)
        sums.add(
            rows, outputs_at(layer, missing, part).reshape(by_group), outputs_at(layer, targets, part).reshape(by_group)
        )
    add_to_weight(layer, sums.solve(1e-12))
    patches = functional.unfold(images, 3, padding=1, stride=2).transpose(1, 2).reshape(320, groups, -1).numpy()
    wanted = targets.movedim(1, -1).reshape(320, groups, -1).numpy()
    for group in range(groups):
        expected = np.linalg.lstsq(patches[:, group].astype(float), wanted[:, group].astype(float))[0]
        found = layer.weight.detach().reshape(groups, 8 // groups, -1)[group].T
        assert found.numpy() == pytest.approx(expected, abs=1e-4)


def test_a_change_that_harms_other_rows_is_refused():
    rows, missing = torch.randn(3, 1, 8, generator=torch.Generator().manual_seed(0)), torch.ones(3, 1, 1)
    fitted, other = NormalEquations(1, 8, 1), NormalEquations(1, 8, 1)
    fitted.add(rows, missing, missing)
    other.add(rows, -missing, missing)
    assert best_change(fitted, other) is None
    assert fitted.error() == pytest.approx(1.0)
    assert fitted.error(fitted.solve(1e-9)) == pytest.approx(0.0, abs=1e-6)


def test_directions_that_no_row_shows_stay_as_they_were():
    sums = NormalEquations(1, 3, 1)
    rows = torch.tensor([[[1.0, 2.0, 0.0]], [[2.0, -1.0, 0.0]]])
    sums.add(rows, torch.tensor([[[1.0]], [[5.0]]]), torch.ones(2, 1, 1))
    assert sums.solve(1e-9)[0, :, 0].tolist() == pytest.approx([2.2, -0.6, 0.0], abs=1e-6)


def test_batch_norms_take_the_statistics_of_the_whole_set():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Dropout(0.5)).eval()
    parts = [2 * torch.randn(size, 3, 4, 4) + 1 for size in (5, 2, 9)]
    assert reestimate(model, ({"input": part} for part in parts)) == 1
    whole = torch.cat(parts).double().transpose(0, 1).flatten(1)
    assert model[0].running_mean.numpy() == pytest.approx(whole.mean(1).numpy(), rel=1e-5)
    assert model[0].running_var.numpy() == pytest.approx(whole.var(1).numpy(), rel=1e-5)
    assert not model[0].training
    assert model[0].momentum == 0.1


@pytest.mark.parametrize(
    ("made", "inputs", "changed"),
    [
        (models.PaddedResNet, lambda: drawn(4, 8, 3, 8, 8), {"one.conv2", "two.conv2"}),
        (models.ProjectedBlock, lambda: drawn(4, 8, 3, 8, 8), {"conv2", "down"}),
        (models.Mobile, lambda: drawn(4, 8, 3, 8, 8), {"depthwise", "project"}),
        (
            lambda: models.Bert("sdpa"),
            lambda: [models.sentences()] * 4,
            {"bert.encoder.layer.0.attention.output.dense"},
        ),
    ],
)
def test_nothing_gets_worse_and_the_original_stays(made, inputs, changed):
    model = models.made(made)
    batches = inputs()
    groups = follow(model, batches[0]).groups
    pruned, plan = cut(model, groups[::3])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    outputs = call(model, batches[0])[0]
    done = repair(pruned, model, plan, batches)
    assert done.output_error_after < 0.7 * done.output_error_before
    assert all(each.error_after <= each.error_before for each in done.layers)
    assert changed <= {each.path for each in done.layers if each.error_after < each.error_before}
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(call(model, batches[0])[0], outputs)
    for module in (*model.modules(), *pruned.modules()):
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert "forward" not in vars(module)


def test_without_a_cut_there_is_nothing_to_mend():
    model = models.made(models.PaddedResNet)
    done = repair(copy.deepcopy(model), model, PrunePlan(()), drawn(3, 4, 3, 8, 8))
    assert (done.layers, done.batch_norms, done.output_error_after) == ((), 0, 0.0)


def test_tied_weights_are_left_alone():
    model = models.made(lambda: nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 8), nn.Linear(8, 6), nn.Linear(6, 6)))
    model[3].weight = model[0].weight
    pruned, plan = cut(model, neurons("1", "2", (0, 1, 2, 3)))
    done = repair(pruned, model, plan, drawn(4, 32, 6, name="input"))
    assert [each.path for each in done.layers] == ["2"]
    assert pruned[3].weight is pruned[0].weight


def test_one_batch_is_not_enough():
    model = models.made(models.PaddedResNet)
    with pytest.raises(InputError, match=r"prune\.repair: needs two calibration batches or more.*found 1"):
        repair(copy.deepcopy(model), model, PrunePlan(()), drawn(1, 4, 3, 8, 8))


def test_batches_are_streamed():
    model = models.made(lambda: nn.Sequential(nn.Linear(6, 10), nn.Linear(10, 4)))
    pruned, plan = cut(model, neurons("0", "1", (1, 4)))
    alive = []
    most = 0

    def stream():
        nonlocal most
        for inputs in drawn(12, 8, 6, name="input"):
            own = inputs["input"].clone()
            alive.append(weakref.ref(own))
            yield {"input": own}
            most = max(most, sum(each() is not None for each in alive))

    repair(pruned, model, plan, stream())
    assert len(alive) == 12  # one pass is enough, and no batch is kept in memory
    assert most <= 2


def test_sentences_of_one_length_are_joined(tmp_path):
    lengths = [3, 5, 3, 3, 5, 4] * 8
    ids = [torch.full((1, length), number) for number, length in enumerate(lengths)]
    batches = KeptBatches(({"ids": each} for each in ids), tmp_path)
    found = [batches[number]["ids"] for number in range(batches.count)]
    assert sorted(row[0] for each in found for row in each.tolist()) == list(range(48))
    assert all(len(each) <= 48 // 16 for each in found)
    assert all(lengths[row[0]] == each.shape[1] for each in found for row in each.tolist())
    assert batches.count == 8 + 6 + 3  # 24, 16 and 8 sentences in threes


def test_a_few_batches_stay_as_they_are(tmp_path):
    given = drawn(5, 3, 6)
    batches = KeptBatches(given, tmp_path)
    assert [batches[number]["x"].tolist() for number in range(batches.count)] == [each["x"].tolist() for each in given]


class Counted(nn.Linear):
    ran = 0

    def forward(self, input):
        self.ran += 1
        return super().forward(input)


def test_what_is_finished_is_not_run_again(tmp_path):
    block = lambda: nn.Sequential(Counted(6, 6), nn.Tanh(), Counted(6, 6))  # noqa: E731
    model = models.made(lambda: nn.Sequential(*(block() for _ in range(5))))
    batches = KeptBatches(drawn(3, 4, 6, name="input"), tmp_path)
    order = order_of(model, batches[0], lambda module: isinstance(module, Counted))
    with torch.no_grad():
        whole = [model(**batches[number]) for number in range(3)]
    model[0][0].ran = 0
    found = []
    model.register_forward_hook(lambda module, arguments, result: found.append(result))
    (tmp_path / "kept").mkdir()
    replay = Replay(model, order, batches, tmp_path / "kept")
    for path in (f"{each}.{layer}" for each in range(5) for layer in (0, 2)):
        with replay.up_to(path) as run:
            for number in range(3):
                run(number)
    assert len(found) == 10 * 3
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(found, whole * 10, strict=True))
    assert model[0][0].ran == 2 * 3  # in the passes for itself and for the next; then its results are read
    assert len(list((tmp_path / "kept").iterdir())) <= 3 * 5
