"""The CIFAR-10 workloads: published ResNet-20 and ResNet-56 weights, and the networks of train.py, on a folder of images."""

from __future__ import annotations

from pathlib import Path

import torch
from cifar_images import MEAN, SIDE, STD, augment, normalise, read_images
from cifar_resnet import CifarResNet
from networks import NETWORKS
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.metrics import Accuracy
from benchmarks.preprocessing import ImagePreprocessing
from compress.checkpoint import load_weights
from compress.workload import TensorBatches, Workload
from export.errors import InputError

BASELINES = {20: 0.9173, 56: 0.9339}
"""Test accuracy of the published weights by depth; reproduced with these readers."""

WEIGHTS = {20: "resnet20-12fca82f.th", 56: "resnet56-4bfd9763.th"}
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
HELD_OUT = 10
CALIBRATION = 512


def resnet(*, data: str, weights: str, depth: int = 56, batch_size: int = 128) -> Workload:
    """The workload of examples/cifar10; relative paths start from the current directory.

    Args:
        data: folder with the sheets of CIFAR-10.
        weights: file of the published weights of that depth.
        depth: 20 or 56.
        batch_size: of training.
    """
    model = CifarResNet(_known(depth))
    load_weights(model, _existing(Path(weights), depth))
    return _workload(
        model, data, batch_size, BASELINES[depth], "BSD-2-Clause (weights of akamaster/pytorch_resnet_cifar10)"
    )


def trained(*, network: str, data: str, weights: str, batch_size: int = 128) -> Workload:
    """The same task for a network that train.py has trained.

    Args:
        network: bottleneck, inception, mobilenet, vgg or vit.
        data: folder with the sheets of CIFAR-10.
        weights: checkpoint written by train.py; the accuracy that it states is held to.
        batch_size: of training.
    """
    if network not in NETWORKS:
        raise InputError(f"examples/cifar10: network must be one of {', '.join(NETWORKS)}, found '{network}'")
    path = Path(weights)
    if not path.is_file():
        raise InputError(
            f"examples/cifar10: {path} is missing; make it with: python examples/cifar10/train.py --network {network} "
            f"--data FOLDER --out {path}; then name it with --set arguments.weights=FILE"
        )
    model = NETWORKS[network]()
    load_weights(model, path)
    with safe_open(path, framework="pt") as file:
        stated = (file.metadata() or {}).get("test_accuracy")
    return _workload(model, data, batch_size, None if stated is None else float(stated))


def _workload(
    model: nn.Module, data: str, batch_size: int, baseline: float | None, licence: str | None = None
) -> Workload:
    train, validation, calibration = training_splits(*read_images(Path(data), "train"), batch_size)
    return Workload(
        model=model.eval(),
        example_inputs=next(iter(calibration))[0],
        dynamic_axes={"image": {0: "batch"}},
        train=train,
        validation=validation,
        evaluation=test_images(Path(data)),
        calibration=calibration,
        loss=functional.cross_entropy,
        metric=Accuracy(),
        class_names=CLASSES,
        baseline=baseline,
        baseline_tolerance=0.0002,
        preprocessing=ImagePreprocessing(
            "image", size=(SIDE, SIDE), mean=tuple(MEAN.flatten().tolist()), std=tuple(STD.flatten().tolist())
        ),
        licence=licence,
    )


def test_images(data: Path) -> TensorBatches:
    """The 10,000 test images of the folder."""
    images, labels = read_images(data, "test")
    return TensorBatches({"image": images}, labels, batch_size=100, transform=normalise)


def training_splits(
    images: Tensor, labels: Tensor, batch_size: int
) -> tuple[TensorBatches, TensorBatches, TensorBatches]:
    """Training (shuffled, augmented), validation (every tenth image), and calibration, drawn from the training images.

    The images come class after class, so that every tenth one takes as many of each class.
    """
    every = TensorBatches({"image": images}, labels, batch_size=100, transform=normalise)
    rows = torch.arange(every.samples)
    held = rows % HELD_OUT == 0
    kept = rows[~held]
    drawn = kept[torch.randperm(len(kept), generator=torch.Generator().manual_seed(0))[:CALIBRATION]]
    train = every.take(kept, batch_size=batch_size, shuffle=True, transform=augment)
    return train, every.take(rows[held]), every.take(drawn, batch_size=8)


def _known(depth: int) -> int:
    if depth not in BASELINES:
        raise InputError(f"examples/cifar10: depth must be 20 or 56, whose weights are published, found {depth}")
    return depth


def _existing(weights: Path, depth: int) -> Path:
    if not weights.is_file():
        raise InputError(
            f"examples/cifar10: {weights} is missing; it must be {WEIGHTS[depth]} from "
            "github.com/akamaster/pytorch_resnet_cifar10 (pretrained_models); name it with --set arguments.weights=FILE"
        )
    return weights
