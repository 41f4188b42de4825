"""A model that takes an image as a camera gives it: preprocessing becomes the first nodes of the exported graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from benchmarks.preprocessing import ImagePreprocessing
from compress.workload import Batch, Batches, Workload
from export.errors import InputError

WORST = 0.5
"""Steps of a pixel that a value may lie outside 0 to 255 before it is rounded back."""


class FromPixels(nn.Module):
    """Pixels, uint8 (batch, height, width, channels), through the preprocessing and the model.

    Floats go to the model as they are, (batch, channels, height, width): training and its augmentation stay as they were.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, preprocessing: ImagePreprocessing) -> None:
        super().__init__()
        self.model = model
        self.scale = preprocessing.scale
        for name in ("mean", "std"):
            values = torch.tensor(getattr(preprocessing, name)).reshape(1, -1, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        if image.dtype == torch.uint8:
            image = (image.permute(0, 3, 1, 2).float() * self.scale - self.mean) / self.std
        return self.model(image)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Pixels:
    """Batches whose preprocessed images are turned back into the pixels that they come from, rounded to whole steps."""

    batches: Batches
    preprocessing: ImagePreprocessing
    split: str

    def __iter__(self) -> Iterator[Batch]:
        for inputs, target in self.batches:
            yield pixels_of(inputs, self.preprocessing, self.split), target

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]

    def at_pass(self, number: int) -> Pixels:
        """The same batches from another pass on, where they have passes."""
        again = getattr(self.batches, "at_pass", None)
        return self if again is None else replace(self, batches=again(number))


def from_pixels(workload: Workload, where: str) -> Workload:
    """The workload with a model that takes pixels; validation, calibration and evaluation give pixels.

    Raises:
        InputError: if the workload has no preprocessing of images, more inputs than the image, or values in them that no
            pixel gives.
    """
    preprocessing = workload.preprocessing
    if not isinstance(preprocessing, ImagePreprocessing):
        raise InputError(
            f"{where}: export.fuse_preprocessing puts the preprocessing into the model, and the workload has none for images; "
            "give it preprocessing=ImagePreprocessing(...), or remove the key"
        )
    if list(workload.example_inputs) != [preprocessing.input]:
        raise InputError(
            f"{where}: export.fuse_preprocessing takes a model with one input, '{preprocessing.input}', "
            f"found {', '.join(workload.example_inputs)}"
        )

    def split(name: str, batches: Batches) -> Pixels:
        return Pixels(batches, preprocessing, f"{where}: {name}")

    assert workload.validation is not None, "load_workload gives every workload a validation set"
    calibration = workload.train if workload.calibration is None else workload.calibration
    named = workload.dynamic_axes.get(preprocessing.input, {})
    axes = {{0: 0, 1: 3, 2: 1, 3: 2}[axis]: name for axis, name in sorted(named.items())}
    changes = {
        "model": FromPixels(workload.model, preprocessing).eval(),
        "example_inputs": pixels_of(workload.example_inputs, preprocessing, f"{where}: example_inputs"),
        "dynamic_axes": {preprocessing.input: axes},
        "validation": split("validation", workload.validation),
        "calibration": split("calibration", calibration),
        "evaluation": split("evaluation", workload.evaluation),
        "student": None if workload.student is None else FromPixels(workload.student, preprocessing),
        "preprocessing": replace(preprocessing, fused=True),
    }
    return Workload(**(vars(workload) | changes))


def pixels_of(inputs: Mapping[str, Tensor], preprocessing: ImagePreprocessing, where: str) -> dict[str, Tensor]:
    """The pixels, uint8 (batch, height, width, channels), that the preprocessing makes these inputs of.

    Raises:
        InputError: if a value lies outside what pixels can give.
    """
    mean, std = (torch.tensor(getattr(preprocessing, name)).reshape(1, -1, 1, 1) for name in ("mean", "std"))
    values = (inputs[preprocessing.input] * std + mean) / preprocessing.scale
    if float(values.min()) < -WORST or float(values.max()) > 255 + WORST:
        raise InputError(
            f"{where}: holds values that stand for pixels from {float(values.min()):.1f} to {float(values.max()):.1f}, "
            "not 0 to 255; scale, mean or std of the preprocessing are not those of the data"
        )
    return {preprocessing.input: values.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()}
