import copy
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import nn

from compress.prune.blocks import Block, Skip, blocks_of, skip
from compress.prune.exactness import check
from compress.prune.follow import follow
from compress.prune.plan import PrunePlan, apply, zero
from examples.cifar10.cifar_resnet import CifarResNet
from export.calling import call
from export.errors import InputError
from export.to_onnx import to_onnx
from tests.compress import prune_models as models


class Stream(nn.Module):
    """What is a block and what is not, in one stream of width 8."""

    class Residual(nn.Module):
        def __init__(self, in_tuple=False):
            super().__init__()
            self.linear, self.in_tuple = nn.Linear(8, 8), in_tuple

        def forward(self, x):
            y = torch.relu(x + self.linear(x))
            return (y,) if self.in_tuple else y

    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, x):
            return x * torch.sigmoid(self.linear(x))

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.plain = nn.Linear(8, 8)
        self.gate = self.Gate()
        self.twice = self.Residual()
        self.stage = nn.Sequential(self.Residual(), self.Residual())
        self.wrapped = self.Residual(in_tuple=True)
        self.out = nn.Linear(8, 5)

    def forward(self, x):
        y = self.gate(self.plain(self.first(x)))
        return self.out(self.wrapped(self.stage(self.twice(self.twice(y))))[0])


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 12, 0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3)
        self.out = nn.Linear(8, 5)

    def forward(self, tokens, padding):
        return self.out(self.encoder(self.embedding(tokens), src_key_padding_mask=padding))


def padded():
    return models.tokens() | {"padding": torch.tensor([[False] * 7, [False] * 5 + [True] * 2])}


def paths(model, inputs):
    return [block.path for block in blocks_of(model, inputs)]


def test_blocks_are_what_an_addition_leads_past_and_is_called_once():
    assert blocks_of(models.made(Stream), models.rows()) == (
        Block("stage.0"),
        Block("stage.1"),
        Block("wrapped", in_tuple=True),
    )


def test_residual_blocks_of_equal_width():
    image = {"image": torch.randn(2, 3, 32, 32)}
    expected = ["layer1.0", "layer1.1", "layer2.1", "layer3.1"]  # the first of a stage halves the image
    assert paths(models.made(lambda: CifarResNet(14)), image) == expected


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_layers_of_bert(implementation):
    pytest.importorskip("transformers")
    model = models.made(lambda: models.Bert(implementation))
    assert paths(model, models.sentences()) == ["bert.encoder.layer.0", "bert.encoder.layer.1"]


def test_layers_of_an_encoder():
    assert paths(models.made(Encoder), padded()) == [f"encoder.layers.{place}" for place in range(3)]


def test_a_skipped_block_hands_on_its_input():
    model = models.made(Stream)
    x = models.rows()["x"]
    skip(model, [Block("stage.0"), Block("wrapped", in_tuple=True)])
    stream = model.twice(model.twice(model.gate(model.plain(model.first(x)))))
    assert torch.equal(model(x), model.out(model.stage[1](stream)))


def test_a_plan_skips_cuts_what_is_left_and_is_exact(tmp_path: Path):
    model, inputs = models.made(lambda: CifarResNet(14)), {"image": torch.randn(2, 3, 32, 32)}
    original = copy.deepcopy(model)
    groups, blocks = follow(model, inputs).groups, blocks_of(model, inputs)
    plan = PrunePlan.of(model, groups[::3], blocks[1:3])
    assert plan.skipped == ("layer1.1", "layer2.1")
    assert check(model, plan, [inputs]).refusal is None
    apply(model, plan)
    assert isinstance(model.layer1[1], Skip) and not list(model.layer1[1].parameters())
    again = PrunePlan.from_json(plan.to_json())
    assert again == plan
    apply(original, again)
    original.load_state_dict(model.state_dict(), strict=True)
    expected = call(original, inputs)[0].detach().numpy()
    to_onnx(original, inputs, {}, ["logits"], tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    found = session.run(None, {"image": inputs["image"].numpy()})[0]
    assert abs(found - expected).max() <= 1e-4 * abs(expected).max()


def test_an_encoder_without_its_first_layer_still_runs_with_padding_and_traces():
    model, inputs = models.made(Encoder), padded()
    expected = copy.deepcopy(model)
    expected.encoder.layers = expected.encoder.layers[1:]
    expected.encoder.use_nested_tensor = False  # else torch zeroes the padded positions
    skip(model, ["encoder.layers.0"])
    with torch.no_grad():
        assert torch.allclose(model(**inputs), expected(**inputs), atol=1e-6)
    torch.export.export(model, (), inputs, strict=False)


def test_zeroing_skips_too_and_skipping_twice_is_skipping_once():
    model = models.made(Stream)
    plan = PrunePlan((), skipped=("wrapped",), tuples=("wrapped",))
    zero(model, plan)
    zeroed = model(models.rows()["x"])
    apply(model, plan)
    assert torch.equal(model(models.rows()["x"]), zeroed)
    assert PrunePlan.of(model, []) == plan


def test_a_block_that_the_model_lacks_is_refused_and_nothing_is_skipped():
    model = models.made(Stream)
    with pytest.raises(InputError, match=r"pruning plan: 'stage\.7': the model has no such block; apply the plan to"):
        skip(model, ["stage.0", "stage.7"])
    assert not isinstance(model.stage[0], Skip)
