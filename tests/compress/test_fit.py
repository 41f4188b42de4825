"""A training script's middle: it learns, tells what it cost, leaves alone what is not to be trained, and goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.metrics import Accuracy
from compress.training.fit import Plan, fit, measured
from compress.workload import TensorBatches


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.layer = nn.Embedding(6, 8), nn.Linear(8, 2)
        self.table.weight.requires_grad_(False)

    def forward(self, words: Tensor) -> Tensor:
        return self.layer(self.table(words))


def odd() -> TensorBatches:
    """The class of a word is whether its number is above 2."""
    words = torch.arange(6).repeat(10)
    return TensorBatches({"words": words}, (words > 2).long(), batch_size=12, shuffle=True)


def test_it_learns_tells_and_leaves_what_requires_no_gradient(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Network()
    before = model.table.weight.clone()
    plan = Plan("words", epochs=30, learning_rate=0.1, resume=tmp_path / "state")
    epochs = fit(model, odd(), odd(), functional.cross_entropy, Accuracy(), plan)
    assert epochs[-1].validation == measured(model, odd(), Accuracy()) == 1.0 and epochs[-1].loss < epochs[0].loss
    assert torch.equal(model.table.weight, before)
    told = capsys.readouterr().out
    assert (
        told.count("words: accuracy on validation data") == 30 and "words: accuracy on validation data 1.0000" in told
    )
    assert "samples/s; CPU since the last start" in told


def test_it_goes_on_from_what_is_kept(tmp_path: Path) -> None:
    def trained(name: str, *parts: int) -> Tensor:
        model = Network()
        for epochs in parts:
            plan = Plan("words", epochs=epochs, learning_rate=0.1, resume=tmp_path / name)
            fit(model, odd(), odd(), functional.cross_entropy, Accuracy(), plan)
        return model.layer.weight

    whole = trained("whole", 3)
    assert torch.equal(trained("again", 3, 3), whole), "what is done is not done again"
    assert not torch.equal(whole, Network().layer.weight)
