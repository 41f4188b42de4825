import pytest
import torch
from torch import nn
from torch.nn import functional

from benchmarks.metrics import Accuracy
from compress.distill.teacher import Teacher
from compress.evaluate import evaluate
from compress.training import Schedule, Training, train
from compress.training.channels_last import Views, channels_last
from export.calling import call
from tests.compress import prune_models as models

LAST = torch.channels_last


def filters_are_last(model):
    return all(each.is_contiguous(memory_format=LAST) for each in model.parameters() if each.ndim == 4)


@pytest.mark.parametrize("kind", [models.Vgg, models.Mobile])
def test_answers_are_the_same_and_the_order_is_given_back(kind):
    model, inputs = models.made(kind), models.images()
    with torch.no_grad():
        before = call(model, inputs)[0]
        with channels_last(model):
            assert filters_are_last(model)
            during = call(model, inputs)[0]
    assert torch.allclose(before, during, atol=1e-5)
    assert all(each.is_contiguous() for each in model.parameters())


def test_filters_of_five_axes_stay_as_they_are():
    model = nn.ModuleList([nn.Conv2d(3, 4, 3), nn.Conv3d(3, 4, 3)])
    kept = [*model.parameters()]
    with channels_last(model):
        assert model[0].weight.is_contiguous(memory_format=LAST) and model[1].weight.is_contiguous()
    assert model[0].weight.is_contiguous()
    assert all(one is other for one, other in zip(kept, model.parameters(), strict=True))


def test_the_order_is_given_back_after_an_error_too():
    model = models.made(models.Vgg)
    with pytest.raises(ValueError), channels_last(model):
        raise ValueError
    assert all(each.is_contiguous() for each in model.parameters())


def test_a_model_that_was_in_this_order_stays_so():
    model = models.made(models.Vgg).to(memory_format=LAST)
    with channels_last(model):
        pass
    assert filters_are_last(model)


def test_a_view_across_images_copies_them():
    images = torch.randn(2, 3, 4, 5).to(memory_format=LAST)
    with pytest.raises(RuntimeError, match="view size"):
        images.view(2, -1)
    with Views():
        assert torch.equal(images.view(2, -1), images.reshape(2, -1))
        assert torch.equal(images.view(size=(6, 20)), images.reshape(6, 20))
        within = images.view(2, 3, 4, 5, 1)
        assert within.data_ptr() == images.data_ptr()
        with pytest.raises(RuntimeError, match="invalid for input of size 120"):
            images.view(7, -1)


def test_a_network_that_flattens_by_a_view_is_evaluated_trained_and_teaches(tmp_path):
    """As half of the convolutional networks in the world do: x.view(len(x), -1)."""
    model, inputs = models.made(models.Vgg), models.images()
    batches = [(inputs, torch.arange(len(inputs["x"])) % 5)]
    assert evaluate(model, batches, Accuracy()).shape[0] == len(inputs["x"])
    teacher = Teacher(model, inputs, paths=("features.4",))
    answer = teacher(inputs)
    with torch.no_grad():
        assert torch.allclose(answer.logits, call(model, inputs)[0], atol=1e-4)

    training = Training(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        schedule=Schedule(0.1, 2),
        gradient_clip=None,
        seed=0,
        checkpoint=tmp_path / "resume",
        description="train",
    )
    epochs = train(
        training, batches, lambda given, target: functional.cross_entropy(call(model, given)[0], target), lambda: 0.0
    )
    assert [epoch.epoch for epoch in epochs] == [1, 2]
    assert not torch.allclose(teacher(inputs).logits, call(model.eval(), inputs)[0], atol=1e-3)
    assert all(each.is_contiguous() for each in model.parameters())
