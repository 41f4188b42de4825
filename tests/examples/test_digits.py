"""The digits demo: its splits, its checkpoint, its messages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.datasets import load_digits

from benchmarks.metrics import Accuracy
from compress.evaluate import evaluate
from compress.workload import TensorBatches
from export.errors import InputError
from tests.examples.conftest import EXAMPLES, Load

LARGEST_BYTES = {"resnet": 1_000_000, "cnn": 150_000, "mlp": 150_000}


def contents(batches: TensorBatches) -> set[bytes]:
    return {image.numpy().tobytes() for image in batches.inputs["image"]}


@pytest.mark.parametrize("network", LARGEST_BYTES)
def test_the_committed_checkpoint_reaches_the_stated_baseline(load: Load, network: str) -> None:
    module = load("digits", "workload")
    workload = module.digits(network=network)
    rows = evaluate(workload.model, workload.evaluation, Accuracy())
    assert len(rows) == 600
    assert Accuracy().value(rows) == pytest.approx(workload.baseline, abs=workload.baseline_tolerance)
    assert (EXAMPLES / "digits" / module.CHECKPOINTS[network]).stat().st_size < LARGEST_BYTES[network]


def test_the_splits_are_disjoint_by_content(load: Load) -> None:
    workload = load("digits", "workload").digits()
    train, validation, test = (contents(part) for part in (workload.train, workload.validation, workload.evaluation))
    assert [len(part) for part in (train, validation, test)] == [900, 297, 600]
    assert not train & validation and not train & test and not validation & test
    assert contents(workload.calibration) <= train
    assert workload.calibration.samples == 300


def test_the_test_split_is_the_last_600_digits(load: Load) -> None:
    _, _, test = load("digits", "workload").digit_splits(batch_size=64)
    assert np.array_equal(test.target.numpy(), load_digits(return_X_y=True)[1][-600:])


def test_upsampling_maps_grey_levels_0_to_16_onto_0_to_1(load: Load) -> None:
    levels = torch.tensor([0.0, 8.0, 16.0]).reshape(3, 1, 1, 1).expand(3, 1, 8, 8)
    expected = torch.tensor([0.0, 0.5, 1.0]).reshape(3, 1, 1, 1).expand(3, 1, 32, 32)
    assert torch.allclose(load("digits", "workload").upsampled(levels), expected)


def test_jitter_moves_the_ink_by_a_few_pixels_and_repeats_with_its_generator(load: Load) -> None:
    jitter = load("digits", "workload").jitter
    image = torch.zeros(200, 1, 32, 32)
    image[:, :, 15:17, 15:17] = 1.0  # at the centre, where turning and scaling move nothing
    moved = jitter({"image": image}, torch.Generator().manual_seed(3))["image"]
    again = jitter({"image": image}, torch.Generator().manual_seed(3))["image"]
    assert torch.equal(moved, again)
    positions = torch.arange(32) - 15.5
    centre = (moved.sum(dim=2)[:, 0] * positions).sum(dim=1) / moved.sum(dim=(1, 2, 3))
    assert 2.0 < centre.abs().max() < 3.5


def test_a_missing_checkpoint_says_how_to_make_it(load: Load) -> None:
    made = r"gone\.safetensors is missing; .* python examples/digits/train\.py --network mlp --out"
    with pytest.raises(InputError, match=made):
        load("digits", "workload").digits(network="mlp", checkpoint="gone.safetensors")


def test_an_unknown_network_is_refused(load: Load) -> None:
    with pytest.raises(InputError, match=r"network must be one of resnet, cnn, mlp, found 'vit'"):
        load("digits", "workload").digits(network="vit")


def test_training_learns(load: Load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The whole command, a quarter of the usual epochs: far better than the tenth that guessing gets."""
    train, out = load("digits", "train"), tmp_path / "mlp.safetensors"
    words = ["--network", "mlp", "--out", str(out), "--epochs", "10", "--threads", "1"]
    monkeypatch.setattr("sys.argv", ["train.py", *words])
    train.main()
    network = load("digits", "digits_model").DigitsMlp()
    network.load_state_dict(load_file(out))
    assert train.accuracy(network, load("digits", "workload").digit_splits(64)[2]) > 0.7
