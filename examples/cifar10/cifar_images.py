"""CIFAR-10 from a folder of sheets, each 1,000 images of one class; kept as uint8 and normalised batch by batch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from export.errors import InputError

ACROSS, DOWN, SIDE = 40, 25, 32
SHEETS = {"train": 5, "test": 1}
"""Sheets a class; file names are SPLIT_CLASS_SHEET.webp."""

MEAN = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)
"""ImageNet's, with which the published weights were trained."""

PADDING = 4


def read_images(folder: Path, split: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
    """Images, uint8 (samples, 3, 32, 32), and labels, int64 (samples,); class after class."""
    places = [
        (label, folder / f"{split}_{label}_{sheet}.webp") for label in range(10) for sheet in range(SHEETS[split])
    ]
    missing = [path.name for _, path in places if not path.is_file()]
    if missing:
        raise InputError(
            f"examples/cifar10: {folder} lacks {missing[0]}{f' and {len(missing) - 1} more' if missing[1:] else ''}; "
            "it must hold CIFAR-10 as train_CLASS_0..4.webp and test_CLASS_0.webp for the classes 0 to 9, each a sheet of "
            "40 x 25 images of 32 x 32 (as in github.com/cyizhuo/CIFAR-10-dataset); "
            "name it with --set arguments.data=FOLDER"
        )
    sheets = [read_sheet(path) for _, path in places]
    labels = torch.tensor([label for label, _ in places]).repeat_interleave(ACROSS * DOWN)
    return torch.cat(sheets), labels


def read_sheet(path: Path) -> Tensor:
    """The images of one sheet in reading order, uint8 (1000, 3, 32, 32)."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read as an image ({error}); fetch it again") from error
    if pixels.shape != (DOWN * SIDE, ACROSS * SIDE, 3):
        height, width = pixels.shape[:2]
        raise InputError(f"{path}: is {width} x {height} pixels; a sheet is {ACROSS * SIDE} x {DOWN * SIDE}")
    images = pixels.reshape(DOWN, SIDE, ACROSS, SIDE, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3, SIDE, SIDE)
    return torch.from_numpy(np.ascontiguousarray(images))


def normalise(inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """uint8 images as the network wants them, float32."""
    return {"image": (inputs["image"].float() / 255.0 - MEAN) / STD}


def augment(inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """Pad by 4 black pixels, crop 32x32 anywhere, mirror half of the images, normalise."""
    image = inputs["image"]
    samples = len(image)
    top, left = torch.randint(2 * PADDING + 1, (2, samples, 1), generator=generator).unbind()
    mirrored = torch.rand(samples, 1, generator=generator) < 0.5
    steps = torch.arange(SIDE)
    rows, columns = top + steps, left + torch.where(mirrored, steps.flip(0), steps)
    sample, channel = torch.arange(samples).reshape(-1, 1, 1, 1), torch.arange(3).reshape(1, -1, 1, 1)
    cropped = functional.pad(image, (PADDING,) * 4)[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]
    return normalise({"image": cropped}, generator)
