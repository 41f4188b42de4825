"""Mask gradients against gradients by explicit masks, one sample at a time."""

import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from compress.prune.blocks import Block
from compress.prune.channels import Group, Slice
from compress.prune.follow import follow
from compress.prune.importance.fisher import block_fisher, fisher, mask_gradients
from compress.prune.plan import PrunePlan, named_tensors
from export.calling import call
from tests.compress import prune_models as models


def squared_error(outputs, target):
    return (outputs - target).square().sum(dim=tuple(range(1, outputs.dim()))).mean()


def batch(model, inputs, seed=0):
    shape = call(model, inputs)[0].shape
    return inputs, torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def one_by_one(model, readers, inputs, target):
    """Gradient of each sample by a mask that multiplies the given columns of the readers' weights, by autograd."""
    found = []
    for row in range(len(target)):
        mask = torch.ones((), requires_grad=True)
        weights = named_tensors(model)
        masked = {}
        for name, columns in readers:
            kept = torch.zeros(weights[name].shape[1], dtype=torch.bool)
            kept[list(columns)] = True
            factor = torch.where(kept, mask, torch.ones(())).reshape(1, -1, *[1] * (weights[name].dim() - 2))
            masked[name] = weights[name].detach() * factor
        sample = {name: tensor[row : row + 1] for name, tensor in inputs.items()}
        outputs = functional_call(model, masked, kwargs=sample)
        (gradient,) = torch.autograd.grad(squared_error(outputs, target[row : row + 1]), mask)
        found.append(float(gradient))
    return found


def readers_of(group):
    return [(each.tensor, each.indices) for each in group.slices if each.dim == 1 and "embedding" not in each.tensor]


def test_neurons_of_a_tiny_net_by_hand():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    groups = [
        Group((Slice("0.weight", 0, (c,)), Slice("0.bias", 0, (c,)), Slice("2.weight", 1, (c,)))) for c in range(4)
    ]
    x, target = torch.randn(5, 3), torch.randn(5, 2)
    first, shift, second, last = (parameter.detach().numpy().astype(float) for parameter in model.parameters())
    hidden = np.maximum(x.numpy() @ first.T + shift, 0)
    by_output = 2 * (hidden @ second.T + last - target.numpy())
    by_mask = hidden * (by_output @ second)
    measure = fisher(model, groups, [({"x": x}, target)], squared_error)
    assert [measure(group) for group in groups] == pytest.approx(0.5 * (by_mask**2).mean(0), rel=1e-4)


@pytest.mark.parametrize(
    ("made", "inputs"),
    [
        (models.PaddedResNet, models.images),  # a residual stream with several readers
        (models.Mobile, models.images),  # depthwise, squeeze-and-excite: two readers
        (models.Vgg, models.images),  # sixteen inputs of a linear layer are one channel
        (models.Dense, models.images),
        (models.Attention, models.tokens),  # heads
        (lambda: models.Bert("eager"), models.sentences),
    ],
)
def test_every_group_of_real_structures(made, inputs):
    model = models.made(made)
    given, target = batch(model, inputs())
    groups = follow(model, given).groups
    assert groups
    (found,) = mask_gradients(model, groups, [(given, target)], squared_error)
    for group, column in list(zip(groups, found.T, strict=True))[:: max(1, len(groups) // 12)]:
        expected = one_by_one(model, readers_of(group), given, target)
        assert column.tolist() == pytest.approx(expected, rel=1e-3, abs=1e-4 * float(found.abs().max()))


def test_a_grouped_convolution_reads_an_index_in_every_group():
    model = models.made(lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 3, groups=2), nn.Flatten()))
    group = Group((Slice("0.weight", 0, (1, 3)), Slice("0.bias", 0, (1, 3)), Slice("1.weight", 1, (1,))))
    inputs, target = batch(model, {"input": models.images()["x"]})
    (found,) = mask_gradients(model, [group], [(inputs, target)], squared_error)
    assert found[:, 0].tolist() == pytest.approx(one_by_one(model, readers_of(group), inputs, target), rel=1e-4)


def test_a_transposed_convolution_reads_along_its_first_axis():
    model = models.made(lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.ConvTranspose2d(4, 2, 2), nn.Flatten()))
    group = Group((Slice("0.weight", 0, (1,)), Slice("0.bias", 0, (1,)), Slice("1.weight", 0, (1,))))
    inputs, target = batch(model, {"input": models.images()["x"]})
    (found,) = mask_gradients(model, [group], [(inputs, target)], squared_error)
    with_producer = one_by_one_of_producer(model, inputs, target)
    assert found[:, 0].tolist() == pytest.approx(with_producer, rel=1e-4)


def one_by_one_of_producer(model, inputs, target):
    """The mask on channel 1 of the first layer's output instead: nothing lies between the two."""
    found = []
    for row in range(len(target)):
        mask = torch.ones((), requires_grad=True)
        hidden = model[0](inputs["input"][row : row + 1])
        masked = torch.cat([hidden[:, :1], hidden[:, 1:2] * mask, hidden[:, 2:]], 1)
        loss = squared_error(model[2](model[1](masked)), target[row : row + 1])
        found.append(float(torch.autograd.grad(loss, mask)[0]))
    return found


class OwnProduct(nn.Module):
    """Reads with a weight of its own, not by a module's call."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 4)
        self.weight = nn.Parameter(torch.randn(2, 4))

    def forward(self, x):
        return functional.linear(torch.relu(self.first(x)), self.weight)


def test_weights_times_gradient_where_no_module_reads():
    model = models.made(OwnProduct)
    group = Group((Slice("first.weight", 0, (2,)), Slice("first.bias", 0, (2,)), Slice("weight", 1, (2,))))
    inputs, target = batch(model, models.rows())
    expected = one_by_one(model, [("weight", (2,))], inputs, target)
    singles = [({"x": inputs["x"][row : row + 1]}, target[row : row + 1]) for row in range(3)]
    found = torch.cat(list(mask_gradients(model, [group], singles, squared_error)))
    assert found[:, 0].tolist() == pytest.approx(expected, rel=1e-4)
    (together,) = mask_gradients(model, [group], [(inputs, target)], squared_error)
    assert together[:, 0].tolist() == pytest.approx([sum(expected) / 3**0.5] * 3, rel=1e-4)


def test_an_embedding_is_not_read_but_looked_up():
    model = models.made(models.Attention)
    group = Group(
        (Slice("embedding.weight", 1, (3,)), *(Slice(f"{name}.weight", 1, (3,)) for name in ["query", "key", "value"]))
    )
    inputs, target = batch(model, models.tokens())
    (found,) = mask_gradients(model, [group], [(inputs, target)], squared_error)
    assert found[:, 0].tolist() == pytest.approx(one_by_one(model, readers_of(group), inputs, target), rel=1e-4)


def test_what_nobody_reads_is_not_known():
    model = models.made(models.Attention)
    lone = Group((Slice("embedding.weight", 1, (3,)),))
    assert fisher(model, [lone], [batch(model, models.tokens())], squared_error)(lone) is None


def test_batches_are_streamed_and_their_size_does_not_matter():
    model = models.made(models.PaddedResNet)
    inputs = {"x": torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(2))}
    _, target = batch(model, inputs)
    groups = follow(model, inputs).groups
    alive: list[weakref.ref[torch.Tensor]] = []
    most = 0

    def stream(size):
        nonlocal most
        for start in range(0, 6, size):
            most = max(most, sum(each() is not None for each in alive))
            rows = inputs["x"][start : start + size].clone()
            alive.append(weakref.ref(rows))
            yield {"x": rows}, target[start : start + size]

    one, four = (fisher(model, groups, stream(size), squared_error) for size in (1, 4))
    assert [one(group) for group in groups] == pytest.approx([four(group) for group in groups], rel=1e-3, abs=1e-9)
    assert most <= 2


def test_the_model_is_as_it_was():
    model = models.made(models.Mobile)
    model.stem.weight.requires_grad_(False)
    kept = model.project.weight.grad = torch.ones_like(model.project.weight)
    inputs, target = batch(model, models.images())
    fisher(model, follow(model, inputs).groups, [(inputs, target)], squared_error)
    assert model.project.weight.grad is kept
    assert [name for name, parameter in model.named_parameters() if not parameter.requires_grad] == ["stem.weight"]
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_skipped_block_costs_what_the_loss_really_rises():
    model = models.made(models.PaddedResNet)
    with torch.no_grad():
        model.one.bn2.weight.zero_()
        model.one.bn2.bias.zero_()
    inputs, target = batch(model, models.images())
    block = Block("one")
    plans = {block: PrunePlan.of(model, (), [block])}
    rises = block_fisher(model, plans, [(inputs, target)], squared_error)
    assert rises == {block: pytest.approx(0.0, abs=1e-6)}
    with torch.no_grad():
        model.one.bn2.bias.fill_(0.5)
        whole = model(**inputs)
        stream = functional.relu(model.bn(model.conv(inputs["x"])))
        without = model.linear(functional.avg_pool2d(model.two(stream), 4).flatten(1))
    expected = float(squared_error(without, target) - squared_error(whole, target))
    assert expected != 0
    assert block_fisher(model, plans, [(inputs, target)], squared_error)[block] == pytest.approx(expected)
