"""`image_folder`: images in a folder for each class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.metrics import F1, Accuracy
from benchmarks.preprocessing import ImagePreprocessing
from compress.ready import ReadyContext
from compress.ready.classified_texts import BASELINE_TOLERANCE
from compress.ready.model_folder import ModelFolder, load_network, open_folder, read_json
from compress.ready.network import is_function, no_arguments, own_network
from compress.ready.pictures import Pictures, find_splits, numbers_of
from compress.user_code import guarded
from compress.workload import Workload
from export.calling import call

CALIBRATION = 512
"""Training images, evenly spread, for INT8 ranges."""

INPUT = "image"
PREPROCESSOR = "preprocessor_config.json"


class ImageLogits(nn.Module):
    """The logits of a classifier of transformers, for `image`, float32 (batch, channels, height, width)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.model(pixel_values=image).logits
        return logits


@dataclass(frozen=True)
class ImageFolder:
    """Images in a folder for each class: `train/CLASS/*.png` with `test` (or `validation`) beside it, or `CLASS/*.png`."""

    root: str
    """The folder."""
    model: str
    """FILE.py:FUNCTION, which returns a network for images (batch, channels, size, size); or a folder in transformers' format,
    trained for image classification."""
    weights: str | None = None
    """Of a network of FILE.py:FUNCTION: a .safetensors file or one of torch.save."""
    size: int | None = None
    """Pixels of a side of what the model gets; told from a folder's preprocessor_config.json if left out."""
    shorter: int | None = None
    """The shorter side is made so long first, and `size` is cut from the middle; without, the image is made `size` on both sides."""
    mean: tuple[float, ...] | None = None
    """Of each channel, in the scale from 0 to 1, as in training."""
    std: tuple[float, ...] | None = None
    """Of each channel, as in training."""
    channels: Literal["RGB", "L"] = "RGB"
    """L is grey."""
    augment: bool = True
    """Training images are mirrored and moved at random."""
    metric: Literal["accuracy", "macro_f1"] = "accuracy"
    batch_size: int = 32
    """Of training."""
    baseline: float | None = None
    """What the model is known to score on the test split; the run stops if it does not."""

    kind: ClassVar[str] = "image_folder"

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more, found {self.batch_size}")
        missing = [name for name in ("size", "mean", "std") if getattr(self, name) is None]
        if is_function(self.model) and missing:
            raise ValueError(
                f"{' and '.join(missing)} of the images in training must be given; mean [0.485, 0.456, 0.406] and "
                "std [0.229, 0.224, 0.225] are ImageNet's"
            )
        if not missing:
            self._preprocessing({})  # refuses figures that cannot be

    def build(self, context: ReadyContext) -> Workload:
        root = context.existing("root", self.root, "a folder of images, with a folder for each class")
        model, folder = self._network(context)
        preprocessing = self._told(folder, context)
        files, folders, told = find_splits(root, context, "root")
        labels = () if folder is None else folder.labels
        names = labels if sorted(labels) == list(folders) else folders
        numbers = {name: number for number, name in enumerate(names)}
        batches = {
            name: Pictures(tuple(some), numbers_of(some, root, numbers), preprocessing, self.batch_size)
            for name, some in files.items()
        }
        train = batches["train"]
        spread = torch.linspace(0, train.samples - 1, min(CALIBRATION, train.samples)).long()
        calibration = train.take(spread, batch_size=8)
        example = next(iter(train.take(spread[:2], batch_size=2)))[0]
        self._check_logits(model, example, names, context)
        return Workload(
            model=model,
            example_inputs=example,
            dynamic_axes={INPUT: {0: "batch"}},
            train=train.take(torch.arange(train.samples), shuffle=True, augment=self.augment),
            validation=batches["validation"],
            evaluation=batches["evaluation"],
            calibration=calibration,
            loss=functional.cross_entropy,
            metric=Accuracy() if self.metric == "accuracy" else F1("macro"),
            class_names=names,
            baseline=self.baseline,
            baseline_tolerance=BASELINE_TOLERANCE,
            preprocessing=preprocessing,
            licence=None if folder is None else folder.licence,
            notes=told,
        )

    def _network(self, context: ReadyContext) -> tuple[nn.Module, ModelFolder | None]:
        if is_function(self.model):
            return own_network(self.model, self.weights, context), None
        no_arguments(context, self.weights)
        folder = open_folder(context, "model", self.model)
        return ImageLogits(load_network(folder, "image-classification", context, "model")).eval(), folder

    def _told(self, folder: ModelFolder | None, context: ReadyContext) -> ImagePreprocessing:
        """How images become inputs: what the options say, and for the rest what the model's folder says."""
        said = {} if folder is None else _said_by(read_json(folder.path / PREPROCESSOR))
        missing = [name for name in ("size", "mean", "std") if getattr(self, name) is None and name not in said]
        if missing:
            raise context.refusal(
                "model",
                f"the folder's {PREPROCESSOR} does not say {' and '.join(missing)}; add {missing[0]}: as in training",
            )
        try:
            return self._preprocessing(said)
        except ValueError as error:
            raise context.refusal("model", f"{PREPROCESSOR}: {error}") from error

    def _preprocessing(self, said: Mapping[str, Any]) -> ImagePreprocessing:
        size = (self.size, self.size) if self.size is not None else said["size"]
        return ImagePreprocessing(
            INPUT,
            size=size,
            shorter=self.shorter if self.shorter is not None or self.size is not None else said.get("shorter"),
            channels=self.channels,
            scale=said.get("scale", 1 / 255),
            mean=self.mean if self.mean is not None else said["mean"],
            std=self.std if self.std is not None else said["std"],
        )

    def _check_logits(
        self, model: nn.Module, example: dict[str, Tensor], names: tuple[str, ...], context: ReadyContext
    ) -> None:
        with torch.no_grad():
            logits = guarded(lambda: call(model, example)[0], context.where("model"), "running the model on two images")
        if logits.ndim != 2 or logits.shape[1] != len(names):
            raise context.refusal(
                "model",
                f"the model gives outputs of shape {tuple(logits.shape)} for two images, and there are folders of "
                f"{len(names)} classes, so that (2, {len(names)}) are needed",
            )


def _said_by(config: Mapping[str, Any]) -> dict[str, Any]:
    """Size, mean, std and scale from a preprocessor_config.json, as far as it says them in a form that is known here."""
    said: dict[str, Any] = {}
    size, crop = _pair(config.get("size")), _pair(config.get("crop_size"))
    shortest = config.get("size", {}).get("shortest_edge") if isinstance(config.get("size"), dict) else None
    if config.get("do_center_crop") and crop is not None and shortest is not None:
        said |= {"size": crop, "shorter": int(shortest)}
    elif size is not None and not config.get("do_center_crop"):
        said["size"] = size
    if config.get("do_normalize", True):
        said |= {
            name: tuple(map(float, config[key]))
            for name, key in (("mean", "image_mean"), ("std", "image_std"))
            if key in config
        }
    else:
        said |= {"mean": (0.0,), "std": (1.0,)}
    if "rescale_factor" in config:
        said["scale"] = float(config["rescale_factor"])
    return said


def _pair(value: Any) -> tuple[int, int] | None:
    """Height and width, from a figure or from a mapping with both."""
    if isinstance(value, int):
        return value, value
    if isinstance(value, dict) and {"height", "width"} <= set(value):
        return int(value["height"]), int(value["width"])
    return None
