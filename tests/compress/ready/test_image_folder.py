"""image_folder: folders of images, their splits, and networks of both kinds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification

from benchmarks.images import read_image
from benchmarks.preprocessing import ImagePreprocessing
from compress.ready.pictures import Pictures, pixels_of
from export.errors import InputError
from tests.compress.ready.folders import load

NETWORK = """
from torch import nn

def network(width=4, classes=3):
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))
"""
FIGURES = "size: 12, mean: [0.5, 0.4, 0.3], std: [0.2, 0.2, 0.2]"
OWN = f"image_folder: {{root: photos, model: 'network.py:network', {FIGURES}}}"
COLOURS = {"red": 0, "green": 1, "blue": 2}


def paint(folder: Path, samples: int, seed: int, ending: str = "png") -> None:
    """Noisy images of 15 x 12 pixels of three colours, each in its folder."""
    random = np.random.default_rng(seed)
    for colour, channel in COLOURS.items():
        (folder / colour).mkdir(parents=True, exist_ok=True)
        for number in range(samples):
            pixels = random.integers(0, 120, (15, 12, 3), np.uint8)
            pixels[..., channel] += 100
            Image.fromarray(pixels).save(folder / colour / f"{seed}-{number}.{ending}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "network.py").write_text(NETWORK)
    paint(tmp_path / "photos" / "train", 12, seed=1)
    paint(tmp_path / "photos" / "val", 4, seed=2)
    paint(tmp_path / "photos" / "test", 5, seed=3)
    return tmp_path


def test_three_folders_are_three_splits_and_the_classes_are_sorted(folder: Path) -> None:
    workload = load(folder, OWN)
    assert isinstance(workload.train, Pictures)
    assert isinstance(workload.validation, Pictures)
    assert isinstance(workload.evaluation, Pictures)
    assert [each.samples for each in (workload.train, workload.validation, workload.evaluation)] == [36, 12, 15]
    assert workload.class_names == ("blue", "green", "red")
    assert workload.evaluation.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert workload.notes == ()


def test_what_is_evaluated_is_what_a_bundle_makes_of_the_file(folder: Path) -> None:
    workload = load(folder, OWN.replace("size: 12", "size: 8, shorter: 10"))
    assert isinstance(workload.preprocessing, ImagePreprocessing)
    inputs, target = next(iter(workload.evaluation))
    file = folder / "photos" / "test" / "blue" / "3-0.png"
    assert int(target[0]) == 0
    assert np.array_equal(inputs["image"][:1].numpy(), workload.preprocessing(read_image(file, "RGB"))["image"])


def test_an_image_of_the_models_size_is_scaled_by_mean_and_std_alone(folder: Path) -> None:
    pixels = np.arange(12 * 12 * 3, dtype=np.uint8).reshape(12, 12, 3)
    Image.fromarray(pixels).save(folder / "photos" / "test" / "blue" / "0.png")
    inputs, _ = next(iter(load(folder, OWN).evaluation))
    expected = (torch.tensor(pixels).float() / 255 - torch.tensor([0.5, 0.4, 0.3])) / 0.2
    torch.testing.assert_close(inputs["image"][0], expected.permute(2, 0, 1))


def test_training_images_are_moved_and_mirrored_and_the_others_are_not(folder: Path) -> None:
    workload = load(folder, OWN)
    plain = load(folder, OWN.replace("size", "augment: false, size"))
    torch.manual_seed(0)
    moved, still = (
        {row.numpy().tobytes() for inputs, _ in each.train for row in inputs["image"]} for each in (workload, plain)
    )
    assert len(moved - still) > 30  # of 36: one move in 18 leaves an image as it is
    assert not workload.evaluation.augment  # type: ignore[attr-defined]
    torch.manual_seed(5)
    first = next(iter(workload.train))[0]["image"]
    torch.manual_seed(5)
    assert torch.equal(first, next(iter(workload.train))[0]["image"])


def test_classes_alone_are_split_by_a_hash_of_the_names_and_it_is_told(folder: Path) -> None:
    written = OWN.replace("photos", "photos/train")
    paint(folder / "photos" / "train", 30, seed=4)
    first, again, other = (load(folder, written, *overrides) for overrides in ((), (), ("seed=1",)))
    files = [set(each.evaluation.files) for each in (first, again, other)]  # type: ignore[attr-defined]
    assert files[0] == files[1] != files[2]
    paint(folder / "photos" / "train", 10, seed=5)
    assert files[0] <= set(load(folder, written).evaluation.files)  # type: ignore[attr-defined]
    assert [note.partition(" are held out ")[2][:14] for note in first.notes] == ["for validation", "for evaluation"]


def test_weights_are_loaded_and_arguments_reach_the_function(folder: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3))
    save_file(model.state_dict(), folder / "net.safetensors")
    workload = load(folder, OWN.replace("size", "weights: net.safetensors, size"), "arguments.width=5")
    assert torch.equal(workload.model.state_dict()["0.weight"], model[0].weight)


def test_a_folder_of_transformers_says_size_mean_std_and_class_names(folder: Path) -> None:
    torch.manual_seed(0)
    names = {0: "red", 1: "green", 2: "blue"}
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], id2label=names)
    model = ResNetForImageClassification(config).eval()
    model.save_pretrained(folder / "resnet")
    said = {"size": {"shortest_edge": 14}, "crop_size": {"height": 12, "width": 12}, "do_center_crop": True}
    said |= {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25], "rescale_factor": 1 / 255}
    (folder / "resnet" / "preprocessor_config.json").write_text(json.dumps(said))
    workload = load(folder, "image_folder: {root: photos, model: resnet}")
    expected = ImagePreprocessing("image", (12, 12), 14, mean=(0.5,) * 3, std=(0.25,) * 3)
    assert workload.preprocessing == expected
    assert workload.class_names == ("red", "green", "blue")
    inputs, target = next(iter(workload.evaluation))
    assert target[:5].tolist() == [2] * 5  # blue comes first by its name
    with torch.no_grad():
        torch.testing.assert_close(workload.model(inputs["image"]), model(pixel_values=inputs["image"]).logits)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("channels", ["RGB", "L"])
def test_pillow_and_numpy_read_the_same_pixels(tmp_path: Path, mode: str, channels: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 4), np.uint8)
    image = (
        Image.fromarray(pixels[..., :2].copy().view(np.uint16)[..., 0])
        if mode == "I;16"
        else Image.fromarray(pixels).convert(mode)
    )
    image.save(tmp_path / "a.png")
    assert np.array_equal(pixels_of(tmp_path / "a.png", channels), read_image(tmp_path / "a.png", channels))


WRONG: list[tuple[Callable[[Path], object], str, str]] = [
    (
        lambda f: None,
        OWN.replace("photos", "nowhere"),
        r"recipe.yaml:3: workload.image_folder.root: there is no 'nowhere'",
    ),
    (
        lambda f: None,
        OWN.replace("size: 12, ", ""),
        r"image_folder: size of the images in training must be given; mean \[0.485",
    ),
    (lambda f: None, OWN.replace("size: 12", "size: 0"), r"size: found \(0, 0\), height and width from 1"),
    (lambda f: None, OWN.replace("size: 12", "size: 12, shorter: 6"), r"shorter: found 6 with size \(12, 12\)"),
    (lambda f: None, OWN.replace("std: [0.2, 0.2, 0.2]", "std: [0.2, 0.2]"), r"std: found 2 values, 3 or 1 are meant"),
    (lambda f: None, OWN.replace("size", "batch_size: 0, size"), r"batch_size must be 1 or more, found 0"),
    (lambda f: None, OWN.replace("size", "weights: no.pt, size"), r"image_folder.weights: there is no 'no.pt'"),
    (lambda f: None, OWN.replace("py:network", "py:nn"), r"network.py:nn: no function 'nn' in it|calling it"),
    (
        lambda f: (f / "network.py").write_text("def network():\n    return 3\n"),
        OWN,
        r"must return a torch.nn.Module, returned int",
    ),
    (
        lambda f: (f / "photos/test/red").rename(f / "photos/test/rot"),
        OWN,
        r"'test' has a class 'rot' that is not in training",
    ),
    (lambda f: (f / "photos/train/pink").mkdir(), OWN, r"'train/pink' has no image \(.png"),
    (
        lambda f: (f / "photos/train").rename(f / "photos/training"),
        OWN,
        r"has a test or validation folder and no train",
    ),
    (lambda f: paint(f / "photos/dev", 2, 9), OWN, r"val and dev are folders of one split"),
    (
        lambda f: None,
        OWN.replace("photos", "photos/test/red"),
        r"'red' holds 0 folders; it must hold one for each class",
    ),
    (
        lambda f: (f / "network.py").write_text(NETWORK.replace("classes=3", "classes=5")),
        OWN,
        r"shape \(2, 5\) for two images, .* of 3",
    ),
    (lambda f: (f / "photos/test/red/3-0.png").write_bytes(b"\x89PNG\r\n\x1a\nx"), OWN, r"3-0.png: .*image"),
]


@pytest.mark.parametrize(("spoil", "written", "message"), WRONG)
def test_what_is_wrong_is_named(folder: Path, spoil: Callable[[Path], object], written: str, message: str) -> None:
    spoil(folder)
    with pytest.raises(InputError, match=message):
        for _ in load(folder, written).evaluation:
            pass
