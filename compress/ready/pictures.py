"""Image files of classes: found, split, and read batch by batch, so that memory does not grow with the folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.images import read_image
from benchmarks.preprocessing import ImagePreprocessing
from compress.ready import ReadyContext
from compress.ready.holding_out import NAMES, split
from compress.workload import Batch
from export.errors import InputError

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".pgm")
SAFE_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
"""Of Pillow, whose PNG images it turns into the same pixels as `read_image`, faster."""

MARGIN = 8
"""A training image is moved by up to an eighth of its size, as is usual for 32 x 32 pixels (4 of them)."""


@dataclass(frozen=True)
class Pictures:
    """Batches of image files, each read when its batch is, preprocessed as a bundle's runner does it.

    Shuffled, each pass draws its order, and what is moved and mirrored, from torch's global generator.

    Args:
        files, labels: parallel; labels int64.
        augment: half of the images mirrored, all moved by up to an eighth of their size, black coming in.
    """

    files: tuple[Path, ...] = field(repr=False)
    labels: Tensor = field(repr=False)
    preprocessing: ImagePreprocessing
    batch_size: int
    shuffle: bool = False
    augment: bool = False

    @property
    def samples(self) -> int:
        return len(self.files)

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(self.samples) if self.shuffle else torch.arange(self.samples)
        for rows in torch.split(order, self.batch_size):
            images = [self._read(self.files[row]) for row in rows.tolist()]
            yield {self.preprocessing.input: torch.from_numpy(np.concatenate(images))}, self.labels[rows]

    def take(self, rows: Tensor, **changes: object) -> Pictures:
        """The batches of a subset of the files; `changes` replaces other fields."""
        files = tuple(self.files[row] for row in rows.tolist())
        return replace(self, files=files, labels=self.labels[rows], **changes)  # type: ignore[arg-type]

    def _read(self, file: Path) -> np.ndarray:
        pixels = self.preprocessing.fitted(pixels_of(file, self.preprocessing.channels))
        if self.augment:
            pixels = _moved(pixels)
        return replace(self.preprocessing, size=None, shorter=None)(pixels)[self.preprocessing.input]


def pixels_of(file: Path, channels: str) -> np.ndarray:
    """As `benchmarks.images.read_image`; common PNG images by Pillow where it is there, which reads them faster."""
    if file.suffix.lower() == ".png" and find_spec("PIL") is not None:
        from PIL import Image

        try:
            with Image.open(file) as image:
                if image.mode in SAFE_MODES:
                    return np.asarray(image.convert(channels))
        except (OSError, ValueError, Image.DecompressionBombError):
            pass  # read_image says what is wrong with it
    return read_image(file, "L" if channels == "L" else "RGB")


def find_splits(
    root: Path, context: ReadyContext, option: str
) -> tuple[dict[str, list[Path]], tuple[str, ...], tuple[str, ...]]:
    """The files of each split, the classes in sorted order, and what is to be told.

    Either `root/train/CLASS/*` with `test` or `validation` beside it, or `root/CLASS/*`, split here.

    Raises:
        InputError: if there are no classes, a class has no image, or a split has other classes than training.
    """
    folders = {name: [root / called for called in names if (root / called).is_dir()] for name, names in NAMES.items()}
    if not folders["train"] and any(folders.values()):
        raise context.refusal(
            option, f"'{root.name}' has a test or validation folder and no train; name the one with training images so"
        )
    given = {name: there[0] for name, there in folders.items() if there} if folders["train"] else {"train": root}
    if doubled := next((there for there in folders.values() if len(there) > 1), None):
        raise context.refusal(
            option, f"{doubled[0].name} and {doubled[1].name} are folders of one split; keep one of them"
        )
    classes = tuple(sorted(_classes(given["train"])))
    if len(classes) < 2:
        raise context.refusal(
            option,
            f"'{given['train'].name}' holds {len(classes)} folders; it must hold one for each class, 2 or more, with its "
            f"images ({', '.join(ENDINGS)})",
        )
    files = {name: _files(folder, classes, context, option) for name, folder in given.items()}
    keys = {name: [f"{each.parent.name}/{each.name}" for each in some] for name, some in files.items()}
    found, told = split(files, keys, context.seed, f"{root.name}: images")
    return found, classes, told


def _classes(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]


def _files(folder: Path, classes: Sequence[str], context: ReadyContext, option: str) -> list[Path]:
    """The images of a split, class after class, each in the order of names."""
    if strange := sorted(set(_classes(folder)) - set(classes)):
        raise context.refusal(option, f"'{folder.name}' has a class '{strange[0]}' that is not in training")
    found: list[Path] = []
    for name in classes:
        place = folder / name
        images = sorted(file for file in place.rglob("*") if file.suffix.lower() in ENDINGS) if place.is_dir() else []
        if not images and folder.name not in NAMES["validation"]:
            raise context.refusal(
                option, f"'{folder.name}/{name}' has no image ({', '.join(ENDINGS)}); add some, or remove the class"
            )
        found += images
    return found


def numbers_of(files: Sequence[Path], root: Path, numbers: Mapping[str, int]) -> Tensor:
    """The class of each file by the name of the folder it lies in, however deep; int64."""
    found = []
    for file in files:
        named = [part for part in file.relative_to(root).parts[:-1] if part in numbers]
        if not named:
            raise InputError(f"{file}: lies in no folder of a class; the classes are {', '.join(numbers)}")
        found.append(numbers[named[0]])
    return torch.tensor(found)


def _moved(pixels: np.ndarray) -> np.ndarray:
    """The image mirrored or not and moved by a few pixels, drawn from torch's generator; same shape."""
    down, across = (extent // MARGIN for extent in pixels.shape[:2])
    top, left = int(torch.randint(2 * down + 1, ())), int(torch.randint(2 * across + 1, ()))
    if bool(torch.rand(()) < 0.5):
        pixels = pixels[:, ::-1]
    around = ((down, down), (across, across)) + ((0, 0),) * (pixels.ndim - 2)
    padded = np.pad(pixels, around)
    return padded[top : top + pixels.shape[0], left : left + pixels.shape[1]]
