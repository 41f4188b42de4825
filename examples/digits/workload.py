"""The digits workload: scikit-learn's handwritten digits on one of three small networks. Nothing to download, trained weights beside.

The 1,797 images are in the order in which they were collected, writer after writer, and are split in that order, so
that most of the test digits are by hands the model never saw: 900 to train on, 297 for every choice, 600 to test.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from digits_model import NETWORKS
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional

from benchmarks.metrics import Accuracy
from benchmarks.preprocessing import ImagePreprocessing
from compress.checkpoint import load_weights
from compress.workload import TensorBatches, Workload
from export.errors import InputError

CHECKPOINTS = {"resnet": "digits.safetensors", "cnn": "cnn.safetensors", "mlp": "mlp.safetensors"}
BASELINES = {"resnet": 0.9883, "cnn": 0.985, "mlp": 0.9467}
"""Test accuracy of these checkpoints."""

TRAIN, VALIDATION = 900, 297
CALIBRATION = 300


def digits(*, network: str = "resnet", checkpoint: str | None = None, batch_size: int = 64) -> Workload:
    """The workload of examples/digits.

    Args:
        network: resnet, cnn or mlp.
        checkpoint: its weights; a relative path starts from this folder. None takes those that lie beside.
        batch_size: of training.
    """
    if network not in NETWORKS:
        raise InputError(f"examples/digits: network must be one of {', '.join(NETWORKS)}, found '{network}'")
    model = NETWORKS[network]()
    load_weights(model, _existing(Path(__file__).parent / (checkpoint or CHECKPOINTS[network]), network))
    train, validation, test = digit_splits(batch_size)
    return Workload(
        model=model.eval(),
        example_inputs={"image": test.inputs["image"][:2]},
        dynamic_axes={"image": {0: "batch"}},
        train=train,
        validation=validation,
        evaluation=test,
        calibration=train.take(torch.arange(CALIBRATION), shuffle=False, transform=None, batch_size=10),
        loss=functional.cross_entropy,
        metric=Accuracy(),
        class_names=tuple("0123456789"),
        baseline=BASELINES[network],
        baseline_tolerance=0.002,
        preprocessing=ImagePreprocessing("image", size=(32, 32), channels="L"),
        licence="Apache-2.0 (weights); the digits are UCI's, CC BY 4.0",
    )


def digit_splits(batch_size: int) -> tuple[TensorBatches, TensorBatches, TensorBatches]:
    """Training (shuffled, augmented), validation and test batches."""
    images, labels = load_digits(return_X_y=True)
    inputs = {"image": upsampled(torch.from_numpy(images).reshape(-1, 1, 8, 8))}
    every = TensorBatches(inputs, torch.from_numpy(labels).long(), batch_size=100)
    train, validation, test = torch.arange(every.samples).tensor_split([TRAIN, TRAIN + VALIDATION])
    augmented = every.take(train, batch_size=batch_size, shuffle=True, transform=jitter)
    return augmented, every.take(validation), every.take(test)


def upsampled(images: Tensor) -> Tensor:
    """8x8 images of 0..16 as 32x32 images of 0..1, float32."""
    return functional.interpolate(images.float() / 16.0, size=(32, 32), mode="bilinear", align_corners=False)


def jitter(inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """Each image turned by up to 12 degrees, scaled by up to 10 % and shifted by up to 3 pixels."""
    image = inputs["image"]
    turn, scale, right, down = (2.0 * torch.rand(4, len(image), generator=generator) - 1.0).unbind()
    angle, scale, shift = turn * math.radians(12.0), 1.0 + 0.1 * scale, 3.0 / 16.0
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    affine = torch.stack([cosine, -sine, shift * right, sine, cosine, shift * down], dim=1).reshape(-1, 2, 3)
    grid = functional.affine_grid(affine, list(image.shape), align_corners=False)
    return {"image": functional.grid_sample(image, grid, align_corners=False)}


def _existing(checkpoint: Path, network: str) -> Path:
    if not checkpoint.is_file():
        raise InputError(
            f"examples/digits: {checkpoint} is missing; it must hold the weights of the network '{network}'. "
            f"Make it with: python examples/digits/train.py --network {network} --out {checkpoint}"
        )
    return checkpoint
