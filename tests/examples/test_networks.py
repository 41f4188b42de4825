"""Every family of networks through all steps, as tiny versions with random weights: pruned, taught, exported, quantized."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from benchmarks.metrics import Accuracy
from compress.distill import Distill
from compress.prune import Prune
from compress.quantize.model import quantize_model
from compress.step import StepContext
from compress.workload import TensorBatches, Workload
from export.parity import check_parity
from export.to_onnx import to_onnx
from targets.onnxruntime_mobile import OnnxRuntimeMobile
from tests.examples.conftest import Load

torch.set_num_threads(1)


def bottleneck(before: Any, after: Any) -> None:
    """The inner channels of a block, and the stream of a stage with the projection that leads into it."""
    assert after.layer1[1].conv1.out_channels == after.layer1[1].conv2.in_channels < before.layer1[1].conv1.out_channels
    assert after.layer2[0].conv3.out_channels == after.layer2[0].shortcut[0].out_channels
    assert after.layer2[0].conv3.out_channels == after.layer2[1].conv1.in_channels < 64


def inception(before: Any, after: Any) -> None:
    """Channels of every branch go, and what reads their concatenation has as many fewer columns."""
    ends = {"one.0": 8, "three.1.0": 16, "five.2.0": 4, "pooled.1.0": 4}
    lost = dict.fromkeys(ends, 0)
    for place, reader in ((3, "blocks.4.three.0.0"), (4, "linear")):
        given = {end: after.get_submodule(f"blocks.{place}.{end}").out_channels for end in ends}
        assert after.get_submodule(reader).weight.shape[1] == sum(given.values()) < 32
        lost = {end: lost[end] + wide - given[end] for end, wide in ends.items()}
    assert min(lost.values()) > 0


def mobilenet(before: Any, after: Any) -> None:
    """A depthwise convolution, with what widens into it and what narrows behind it."""
    widen, depthwise, narrow = (layer[0] for layer in after.blocks[2].layers)
    assert widen.out_channels == depthwise.groups == narrow.in_channels < 96


def vgg(before: Any, after: Any) -> None:
    """A channel of the last convolution takes its 8x8 columns of the first linear layer with it."""
    last = after.features[11].out_channels
    assert last < before.features[11].out_channels == 32
    assert after.classifier[1].in_features == after.classifier[1].weight.shape[1] == 64 * last


def vit(before: Any, after: Any) -> None:
    """Whole heads of width 8 and single neurons go, the width of a token stays."""
    for layer in after.layers:
        attention, up, down = layer.attention, layer.feed_forward[0], layer.feed_forward[2]
        wide = {each.out_features for each in (attention.query, attention.key, attention.value)}
        assert wide == {attention.out.in_features} and wide < {8, 16, 24}
        assert up.out_features == down.in_features < 64
        assert attention.out.out_features == down.out_features == 32
    assert after.positions.shape == (1, 64, 32)


def cnn(before: Any, after: Any) -> None:
    """Channels of both convolutions, the latter with the columns that read its 4x4 places, and neurons behind them."""
    first, second = after.features[0], after.features[3]
    assert first.out_channels == second.in_channels < 4 and second.out_channels < 8
    assert after.classifier[1].in_features == 16 * second.out_channels
    assert after.classifier[1].out_features == after.classifier[3].in_features < 12


def mlp(before: Any, after: Any) -> None:
    """Neurons of both hidden layers; no input is lost."""
    first, second, last = (each for each in after.layers if isinstance(each, nn.Linear))
    assert first.in_features == 256 and first.out_features == second.in_features < 24
    assert second.out_features == last.in_features < 16


@dataclass(frozen=True)
class Family:
    """One network of an example.

    Args:
        where: example, module and class.
        arguments: that make it tiny.
        macs_ratio: asked of pruning, near all that half of every layer's channels are worth.
        blocks: where hints at blocks are to be compared.
        gone: asserts what pruning took, from the network before and after.
    """

    where: tuple[str, str, str]
    arguments: Mapping[str, Any]
    macs_ratio: float
    blocks: tuple[str, ...]
    gone: Callable[[Any, Any], None]


FAMILIES = {
    "bottleneck": Family(
        ("cifar10", "cifar_resnet", "CifarBottleneckResNet"),
        {"depth": 20, "width": 8},
        3.0,
        ("layer1.0", "layer1.1", "layer2.0", "layer2.1", "layer3.0", "layer3.1"),
        bottleneck,
    ),
    "inception": Family(
        ("cifar10", "cifar_inception", "CifarInception"),
        {"stages": ((2, 1), (2, 2))},
        3.0,
        ("blocks.1", "blocks.3", "blocks.4"),
        inception,
    ),
    "mobilenet": Family(
        ("cifar10", "cifar_mobilenet", "CifarMobileNet"),
        {"stages": ((1, 16, 1, 1), (6, 16, 2, 2))},
        2.5,
        ("blocks.0", "blocks.1", "blocks.2"),
        mobilenet,
    ),
    "vgg": Family(
        ("cifar10", "cifar_vgg", "CifarVgg"),
        {"width": 8, "stages": ((1,), (2,), (4, 4))},
        3.3,
        ("features.0", "features.4", "features.8", "features.11", "classifier.1"),
        vgg,
    ),
    "vit": Family(
        ("cifar10", "cifar_vit", "CifarVit"),
        {"width": 32, "depth": 2, "head_width": 8},
        1.9,
        ("layers.0", "layers.1"),
        vit,
    ),
    "cnn": Family(
        ("digits", "digits_model", "DigitsCnn"), {"width": 4}, 3.0, ("features.0", "features.3", "classifier.1"), cnn
    ),
    "mlp": Family(("digits", "digits_model", "DigitsMlp"), {"width": 16}, 2.0, ("layers.2", "layers.4"), mlp),
}

CHANNELS = {"cifar10": 3, "digits": 1}


def images(example: str) -> torch.Tensor:
    return torch.randn(8, CHANNELS[example], 32, 32, generator=torch.Generator().manual_seed(0))


def made(family: Family, load: Load) -> nn.Module:
    """In eval mode, from seed 0; batch norms have statistics and factors as if trained."""
    example, module, name = family.where
    torch.manual_seed(0)
    network = getattr(load(example, module), name)(**family.arguments).eval()
    assert isinstance(network, nn.Module)
    for each in network.modules():
        if isinstance(each, nn.BatchNorm2d):
            nn.init.uniform_(each.weight, 0.5, 1.5)
            nn.init.uniform_(each.running_var, 0.5, 2.0)
            nn.init.normal_(each.running_mean, 0.0, 0.3)
    return network


def context_of(model: nn.Module, image: torch.Tensor, folder: Path) -> StepContext:
    batches = TensorBatches({"image": image}, torch.arange(len(image)), batch_size=4)
    workload = Workload(
        model=model,
        example_inputs={"image": image[:2]},
        dynamic_axes={"image": {0: "batch"}},
        train=batches,
        evaluation=batches,
        validation=batches,
        loss=nn.functional.cross_entropy,
        metric=Accuracy(),
    )
    return StepContext(workload, model, folder, folder, seed=0, speedup=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_whole_way(name: str, load: Load, tmp_path: Path) -> None:
    family = FAMILIES[name]
    original, image = made(family, load), images(family.where[0])
    context = context_of(original, image, tmp_path)
    workload = context.workload

    step = Prune(macs_ratio=family.macs_ratio, multiple_of=1, max_removed=0.5, repair_samples=8)
    pruned = step.apply(copy.deepcopy(original), context)
    assert pruned.facts["macs"]["ratio"] >= family.macs_ratio
    assert pruned.facts["exactness"] <= 1e-4
    family.gone(original, pruned.model)

    hints = Distill(1, 0.001, teacher_weight=0.0, hints="features", hint_places="blocks", precision="fp32")
    assert tuple(place.teacher for place in hints.lesson(pruned.model, original, workload, 0).places) == family.blocks
    taught = hints.apply(pruned.model, context).model

    exported = to_onnx(taught, workload.example_inputs, workload.dynamic_axes, ("logits",), tmp_path / "float.onnx", 18)
    assert check_parity(taught, exported, workload.example_inputs, workload.dynamic_axes).passed
    scheme = next(each for each in OnnxRuntimeMobile().schemes(exported) if each.mode == "static")
    quantized = quantize_model(exported, [{"image": image.numpy()}], scheme, tmp_path / "int8.onnx")
    float_answer, int8_answer = (
        onnxruntime.InferenceSession(model.path).run(None, {"image": image.numpy()})[0]
        for model in (exported, quantized)
    )
    assert 0 < np.abs(int8_answer - float_answer).max() < 0.1 * np.abs(float_answer).max()
