"""The CIFAR-10 example: architecture, reading of sheets, augmentation, splits, messages."""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from benchmarks.metrics import Accuracy
from compress.evaluate import evaluate
from export.errors import InputError
from tests.examples.conftest import Load


@pytest.mark.parametrize(("depth", "parameters"), [(20, 269_722), (56, 853_018)])
def test_parameters_are_those_of_the_published_networks(load: Load, depth: int, parameters: int) -> None:
    """0.27 M and 0.85 M in the table of github.com/akamaster/pytorch_resnet_cifar10."""
    network = load("cifar10", "cifar_resnet").CifarResNet(depth)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_layers_are_named_as_in_the_published_weights(load: Load) -> None:
    names = set(load("cifar10", "cifar_resnet").CifarResNet(20).state_dict())
    assert {"conv1.weight", "bn1.running_var", "layer3.2.conv2.weight", "layer2.0.bn1.bias", "linear.bias"} <= names
    assert not [name for name in names if "shortcut" in name]


def test_a_padded_shortcut_takes_every_second_pixel_between_zero_channels(load: Load) -> None:
    features = torch.arange(2 * 4 * 4, dtype=torch.float32).reshape(1, 2, 4, 4)
    shortcut = load("cifar10", "cifar_resnet").PaddedShortcut(1)(features)
    zero = [[0.0, 0.0], [0.0, 0.0]]
    assert shortcut.tolist() == [[zero, [[0.0, 2.0], [8.0, 10.0]], [[16.0, 18.0], [24.0, 26.0]], zero]]


def test_the_small_mobilenet_is_depthwise_and_has_shortcuts_where_shapes_agree(load: Load) -> None:
    network = load("cifar10", "cifar_mobilenet").CifarMobileNet()
    blocks = list(network.blocks)
    assert sum(parameter.numel() for parameter in network.parameters()) == 278_474
    assert [block.has_shortcut for block in blocks] == [True, False, True, False, True, True, False, True, True, False]
    filters = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.groups > 1]
    assert len(filters) == len(blocks) and all(layer.groups == layer.in_channels for layer in filters)
    assert network.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_missing_weights_of_a_trained_network_say_how_they_are_made(load: Load, tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"gone is missing; make it with: python examples/cifar10/train\.py --network vgg --data FOLDER",
    ):
        load("cifar10", "workload").trained(network="vgg", data=str(tmp_path), weights=str(tmp_path / "gone"))


def test_an_unknown_network_is_refused(load: Load, tmp_path: Path) -> None:
    known = "network must be one of bottleneck, inception, mobilenet, vgg, vit, found 'alexnet'"
    with pytest.raises(InputError, match=known):
        load("cifar10", "workload").trained(network="alexnet", data=str(tmp_path), weights="any")


def test_the_bottleneck_resnet_has_a_projection_where_a_stage_begins(load: Load) -> None:
    """Parameters from the shapes: convolutions without bias, two for each channel of a batch norm, the linear layer."""
    network = load("cifar10", "cifar_resnet").CifarBottleneckResNet(29)
    expected, inputs = 27 * 16 + 2 * 16, 16
    for inner in (16, 32, 64):
        for place in range(3):
            outputs = 4 * inner
            expected += inputs * inner + 9 * inner**2 + inner * outputs + 2 * (2 * inner + outputs)
            expected += (inputs + 2) * outputs if place == 0 else 0
            inputs = outputs
    assert sum(parameter.numel() for parameter in network.parameters()) == expected + 256 * 10 + 10
    with pytest.raises(ValueError, match=r"depth must be 9n \+ 2 .*, found 20\d"):
        load("cifar10", "cifar_resnet").CifarBottleneckResNet(201)


def test_an_inception_module_has_the_proportions_of_googlenets_3a(load: Load) -> None:
    """Table 1 of arXiv:1409.4842: 192 inputs, 64, 96 -> 128, 16 -> 32, pool -> 32; here the 5x5 is two 3x3 of 32."""
    module = load("cifar10", "cifar_inception").Inception(192, 16)
    found = [(each.in_channels, each.out_channels) for each in module.modules() if isinstance(each, nn.Conv2d)]
    assert found == [(192, 64), (192, 96), (96, 128), (192, 16), (16, 32), (32, 32), (192, 32)]
    assert module.eval()(torch.zeros(1, 192, 8, 8)).shape == (1, 256, 8, 8)


def test_vgg_has_the_convolutions_of_column_a_and_flattens_2x2_places(load: Load) -> None:
    """Table 1 of arXiv:1409.1556: 64, 128, 256, 256, 512, 512, 512, 512; here 48 for 64."""
    network = load("cifar10", "cifar_vgg").CifarVgg()
    widths = [each.out_channels for each in network.features if isinstance(each, nn.Conv2d)]
    assert widths == [wide * 48 // 64 for wide in (64, 128, 256, 256, 512, 512, 512, 512)]
    assert network.classifier[1].in_features == 384 * 2 * 2
    assert network.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_attention_of_the_vision_transformer_is_that_of_torch(load: Load) -> None:
    """Against nn.MultiheadAttention with the same weights."""
    torch.manual_seed(0)
    own = load("cifar10", "cifar_vit").Attention(32, 8)
    other = nn.MultiheadAttention(32, 4, batch_first=True)
    with torch.no_grad():
        other.in_proj_weight.copy_(torch.cat([each.weight for each in (own.query, own.key, own.value)]))
        other.in_proj_bias.copy_(torch.cat([each.bias for each in (own.query, own.key, own.value)]))
        other.out_proj.load_state_dict(own.out.state_dict())
    tokens = torch.randn(2, 5, 32)
    torch.testing.assert_close(own(tokens), other(tokens, tokens, tokens)[0], rtol=1e-4, atol=1e-5)


def test_the_vision_transformer_makes_a_token_of_every_patch(load: Load) -> None:
    """A changed pixel in the last corner changes the last token first: tokens are in reading order, 8 in a row."""
    network = load("cifar10", "cifar_vit").CifarVit(width=32, depth=1, head_width=8).eval()
    image = torch.zeros(1, 3, 32, 32)
    corner = image.clone()
    corner[..., 31, 31] = 5.0
    moved = (network.stem(corner) - network.stem(image)).flatten(2).abs().sum(1)[0]
    assert moved.shape == (64,) and moved.argmax() == 63 and moved[:48].max() == 0


def test_a_course_is_the_networks_own_but_for_what_the_command_says(
    load: Load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    train = load("cifar10", "train")
    assert train.COURSES.keys() == train.NETWORKS.keys()

    def chosen(*words: str, features: frozenset[str]) -> Any:
        monkeypatch.setattr("sys.argv", ["train.py", "--data", "folder", "--out", "file", "--network", *words])
        monkeypatch.setattr(train, "instruction_sets", lambda: features)
        return train.chosen(train._options())

    plain, bf16 = frozenset({"avx2"}), frozenset({"bf16"})
    assert chosen("vit", features=bf16) == train.COURSES["vit"]
    assert chosen("vit", features=plain).precision == "fp32"
    assert chosen("mobilenet", features=bf16).precision == "fp32"
    assert chosen("inception", features=bf16).epochs == 15 and chosen("inception", features=plain).epochs == 4
    assert chosen("inception", "--epochs", "9", features=plain).epochs == 9
    asked = chosen("vgg", "--epochs", "3", "--learning-rate", "0.2", "--precision", "bf16", features=plain)
    assert (asked.epochs, asked.learning_rate, asked.precision, asked.optimizer) == (3, 0.2, "bf16", "sgd")


def test_what_is_trained_is_what_a_run_starts_from(
    load: Load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole command on 120 made-up images, dark and bright ones; then the workload on its checkpoint."""
    train, workload = load("cifar10", "train"), load("cifar10", "workload")
    tiny = partial(load("cifar10", "cifar_vgg").CifarVgg, 8, ((1,), (2,)))

    def read_images(folder: Path, split: str) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.arange(2).repeat_interleave(60)
        return (100 * labels.reshape(-1, 1, 1, 1).expand(-1, 3, 32, 32) + 70).to(torch.uint8), labels

    for module in (train, workload, sys.modules["workload"]):
        monkeypatch.setattr(module, "read_images", read_images)
        if hasattr(module, "NETWORKS"):
            monkeypatch.setattr(module, "NETWORKS", {"vgg": tiny})
    out = tmp_path / "vgg.safetensors"
    words = ["--network", "vgg", "--data", "any", "--out", str(out), "--epochs", "4", "--threads", "1"]
    monkeypatch.setattr("sys.argv", ["train.py", *words, "--batch-size", "12", "--precision", "fp32"])
    train.main()
    printed = capsys.readouterr().out
    assert re.search(r"trained in \d+ s, \d+ images/s, fp32\nvalidation [01]\.\d{4}  test [01]\.\d{4}\nwrote ", printed)

    made = workload.trained(network="vgg", data="any", weights=str(out))
    rows = evaluate(made.model, made.evaluation, Accuracy())
    assert Accuracy().value(rows) == pytest.approx(made.baseline, abs=1e-6) and made.baseline > 0.9
    assert not out.with_suffix(".resume").exists()


def test_a_depth_that_is_no_resnet_is_refused(load: Load) -> None:
    with pytest.raises(ValueError, match=r"depth must be 6n \+ 2 .*, found 21"):
        load("cifar10", "cifar_resnet").CifarResNet(21)


def test_a_sheet_is_read_image_by_image_row_by_row(load: Load, tmp_path: Path) -> None:
    """A hand-made sheet: image k has k // 256 in red, k % 256 in green, and its own pixel's column in blue."""
    sheet = np.zeros((800, 1280, 3), dtype=np.uint8)
    for number in range(1000):
        row, column = divmod(number, 40)
        place = sheet[32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
        place[:, :, 0], place[:, :, 1], place[:, :, 2] = number // 256, number % 256, np.arange(32)
    Image.fromarray(sheet).save(tmp_path / "sheet.webp", lossless=True)

    images = load("cifar10", "cifar_images").read_sheet(tmp_path / "sheet.webp")
    assert images.shape == (1000, 3, 32, 32) and images.dtype == torch.uint8
    numbers = 256 * images[:, 0].long() + images[:, 1]
    assert torch.equal(numbers, torch.arange(1000).reshape(-1, 1, 1).expand(1000, 32, 32))
    assert torch.equal(images[:, 2], torch.arange(32, dtype=torch.uint8).expand(1000, 32, 32))


def test_a_sheet_of_another_size_is_refused(load: Load, tmp_path: Path) -> None:
    Image.new("RGB", (64, 32)).save(tmp_path / "sheet.webp")
    with pytest.raises(InputError, match=r"sheet\.webp: is 64 x 32 pixels; a sheet is 1280 x 800"):
        load("cifar10", "cifar_images").read_sheet(tmp_path / "sheet.webp")


def test_a_truncated_sheet_is_refused(load: Load, tmp_path: Path) -> None:
    (tmp_path / "sheet.webp").write_bytes(b"RIFF")
    with pytest.raises(InputError, match=r"sheet\.webp: cannot be read as an image .*; fetch it again"):
        load("cifar10", "cifar_images").read_sheet(tmp_path / "sheet.webp")


def test_a_missing_folder_says_what_it_should_hold(load: Load, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone lacks train_0_0\.webp and 49 more; .* --set arguments\.data=FOLDER"):
        load("cifar10", "cifar_images").read_images(tmp_path / "gone", "train")


def test_missing_weights_say_where_they_are_from(load: Load, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"gone\.th is missing; it must be resnet20-12fca82f\.th from github\.com/akama"
    ):
        load("cifar10", "workload").resnet(data=str(tmp_path), weights=str(tmp_path / "gone.th"), depth=20)


def test_an_unpublished_depth_is_refused(load: Load, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"depth must be 20 or 56, .*, found 32"):
        load("cifar10", "workload").resnet(data=str(tmp_path), weights="any.th", depth=32)


def test_black_and_white_are_normalised_by_imagenets_figures(load: Load) -> None:
    image = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1).expand(2, 3, 32, 32)
    normalised = load("cifar10", "cifar_images").normalise({"image": image}, torch.Generator())["image"]
    assert normalised[0, :, 0, 0].tolist() == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])
    assert normalised[1, :, 5, 7].tolist() == pytest.approx([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225])


def test_every_augmented_image_is_a_crop_or_its_mirror(load: Load) -> None:
    """Each result is looked for among all 81 crops of the padded image and their mirrors."""
    images = load("cifar10", "cifar_images")
    image = torch.randint(256, (16, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    results = images.augment({"image": image}, torch.Generator().manual_seed(1))["image"]
    padded = functional.pad(image, (4, 4, 4, 4))
    found = set()
    for index, result in enumerate(results):
        for top in range(9):
            for left in range(9):
                crop = padded[index : index + 1, :, top : top + 32, left : left + 32]
                for mirrored in (False, True):
                    candidate = crop.flip(3) if mirrored else crop
                    if torch.equal(images.normalise({"image": candidate}, torch.Generator())["image"][0], result):
                        found.add((index, top, left, mirrored))
    assert {index for index, *_ in found} == set(range(16))
    assert len({mirrored for *_, mirrored in found}) == 2


def test_splits_are_fixed_disjoint_and_balanced(load: Load) -> None:
    """2,000 made-up images, 200 of each class, each known by the number in its first pixels."""
    images = torch.zeros(2000, 3, 32, 32, dtype=torch.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = torch.arange(2000) // 256, torch.arange(2000) % 256
    labels = torch.arange(10).repeat_interleave(200)

    splits = load("cifar10", "workload").training_splits(images, labels, batch_size=128)
    train, validation, calibration = (
        {256 * int(image[0, 0, 0]) + int(image[0, 0, 1]) for image in part.inputs["image"]} for part in splits
    )
    assert validation == set(range(0, 2000, 10))
    assert train == set(range(2000)) - validation
    assert calibration < train and len(calibration) == 512
    assert torch.bincount(splits[1].target).tolist() == [20] * 10
    assert torch.bincount(splits[2].target[:300]).min() > 10, "a prefix of the calibration images holds every class"
