"""LSTM, GRU and their cells: hidden unit j is row j of every gate and column j of the recurrent weights."""

import copy
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import nn

from compress.prune.channels import Slice
from compress.prune.exactness import check
from compress.prune.follow import follow
from compress.prune.plan import PrunePlan, apply
from export.to_onnx import to_onnx
from tests.compress import prune_models as models

pytestmark = pytest.mark.filterwarnings("ignore:The tensor attributes self")  # how torch.export traces an LSTM


class Tagger(nn.Module):
    def __init__(self, kind, layers=1, both=False):
        super().__init__()
        self.embedding = nn.Embedding(11, 4)
        self.layer = kind(4, 6, layers, batch_first=True, bidirectional=both)
        self.out = nn.Linear(12 if both else 6, 5)

    def forward(self, tokens):
        return self.out(self.layer(self.embedding(tokens))[0])


def test_a_unit_of_an_lstm_is_a_row_of_four_gates_and_a_column():
    groups = follow(models.made(lambda: Tagger(nn.LSTM)), models.tokens()).groups
    unit = next(group for group in groups if Slice("out.weight", 1, (2,)) in group.slices)
    rows = (2, 8, 14, 20)
    assert set(unit.slices) == {
        Slice("layer.weight_ih_l0", 0, rows),
        Slice("layer.weight_hh_l0", 0, rows),
        Slice("layer.weight_hh_l0", 1, (2,)),
        Slice("layer.bias_ih_l0", 0, rows),
        Slice("layer.bias_hh_l0", 0, rows),
        Slice("out.weight", 1, (2,)),
    }
    assert len(groups) == 6 + 4  # and the columns of the embedding


def test_a_unit_goes_from_all_layers_and_both_directions():
    groups = follow(models.made(lambda: Tagger(nn.GRU, 2, both=True)), models.tokens()).groups
    unit = next(group for group in groups if Slice("out.weight", 1, (1, 7)) in group.slices)
    assert {
        Slice("layer.weight_ih_l0", 0, (1, 7, 13)),
        Slice("layer.weight_hh_l1_reverse", 1, (1,)),
        Slice("layer.weight_ih_l1_reverse", 1, (1, 7)),
    } <= set(unit.slices)


@pytest.mark.parametrize(("kind", "layers", "both"), [(nn.LSTM, 2, True), (nn.GRU, 1, False), (nn.RNN, 2, True)])
def test_the_smaller_layer_is_exact_and_exports(kind, layers, both, tmp_path: Path):
    model, inputs = models.made(lambda: Tagger(kind, layers, both)), models.tokens()
    plan = PrunePlan.of(model, follow(model, inputs).groups[::2])
    assert check(model, plan, [inputs]).difference <= 1e-6
    small = copy.deepcopy(model)
    apply(small, plan)
    assert (small.layer.hidden_size, small.layer.input_size) == (3, 2)
    assert small.layer._flat_weights[0] is small.layer.weight_ih_l0
    to_onnx(small, inputs, {}, ["tags"], tmp_path / "model.onnx")
    found = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(None, {"tokens": inputs["tokens"].numpy()})[0]
    expected = small(**inputs).detach().numpy()
    assert abs(found - expected).max() <= 1e-4 * abs(expected).max()


def test_steps_of_a_cell_share_its_units():
    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.out = nn.LSTMCell(6, 8), nn.Linear(8, 5)

        def forward(self, x):
            state = self.cell(x)
            return self.out(self.cell(2 * x, state)[0])

    model, inputs = models.made(Steps), models.rows()
    groups = follow(model, inputs).groups
    assert len(groups) == 8
    plan = PrunePlan.of(model, groups[:5])
    assert check(model, plan, [inputs]).difference <= 1e-6
    apply(model, plan)
    assert model.cell.hidden_size == 3


def test_a_first_state_from_outside_keeps_the_units():
    class Started(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.out = nn.GRU(6, 8), nn.Linear(8, 5)

        def forward(self, x):
            return self.out(self.gru(x[None], torch.zeros(1, 3, 8))[0])

    following = follow(models.made(Started), models.rows())
    assert following.groups == ()
    reason = next(each.reason for each in following.left_alone if each.where == "gru")
    assert reason == "24 of 24 channels stay: gru in gru: its first state comes from outside"
