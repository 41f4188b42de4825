"""What turns an image or a text into a model's inputs, as values that travel with the model, and carried out in numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Union

import numpy as np

from benchmarks.images import resized
from export.errors import InputError

Channels = Literal["RGB", "L"]

LONGEST_SIDE, MOST_TOKENS = 1 << 13, 1 << 20
"""What a bundle may ask for: a device has little memory."""


@dataclass(frozen=True)
class ImagePreprocessing:
    """An image, uint8 (height, width, channels), to one float32 input of shape (1, channels, height, width).

    Done in this order: resize, crop from the middle, times `scale`, minus `mean`, over `std`.

    Args:
        input: the model's input.
        size: height and width that the model gets; None leaves the image as it is.
        shorter: the shorter side is made so long first, and `size` is then cut from the middle; None resizes to `size`.
        channels: "RGB", or "L" for grey.
        scale: of the values from 0 to 255.
        mean, std: one for each channel, of the scaled values.
        fused: the model does scale, mean and std itself, and takes pixels, uint8 (1, height, width, channels).
    """

    input: str
    size: tuple[int, int] | None = None
    shorter: int | None = None
    channels: Channels = "RGB"
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    fused: bool = False

    def __post_init__(self) -> None:
        if self.channels not in ("RGB", "L"):
            raise ValueError(f"channels: found {self.channels!r}, allowed: 'RGB', 'L'")
        if self.size is not None and (len(self.size) != 2 or not 1 <= min(self.size) <= max(self.size) <= LONGEST_SIDE):
            raise ValueError(f"size: found {self.size}, height and width from 1 to {LONGEST_SIDE} are meant")
        if self.shorter is not None and (self.size is None or not max(self.size) <= self.shorter <= LONGEST_SIDE):
            raise ValueError(
                f"shorter: found {self.shorter} with size {self.size}; it must be at least the size cut from it, "
                f"at most {LONGEST_SIDE}"
            )
        count = 3 if self.channels == "RGB" else 1
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (1, count):
                raise ValueError(f"{name}: found {len(getattr(self, name))} values, {count} or 1 are meant")
        if min(self.std) <= 0:
            raise ValueError(f"std: found {min(self.std)}, each must be above 0")

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """The model's input for an image, uint8 of shape (height, width, 3), or (height, width) for grey."""
        pixels = self.fitted(pixels)
        if self.fused:
            return {self.input: np.ascontiguousarray(pixels.reshape(1, *pixels.shape[:2], -1))}
        scaled = pixels.reshape(*pixels.shape[:2], -1).astype(np.float32) * np.float32(self.scale)
        values: np.ndarray = (scaled - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return {self.input: np.ascontiguousarray(values.transpose(2, 0, 1)[None])}

    def fitted(self, pixels: np.ndarray) -> np.ndarray:
        """The image at the model's size, still uint8: resized, and cut from the middle."""
        size = self.size
        if size is None:
            return pixels
        if self.shorter is None:
            return pixels if pixels.shape[:2] == tuple(size) else resized(pixels, size)
        height, width = pixels.shape[:2]
        factor = self.shorter / min(height, width)
        pixels = resized(pixels, (round(height * factor), round(width * factor)))
        top, left = ((pixels.shape[axis] - size[axis]) // 2 for axis in (0, 1))
        return pixels[top : top + size[0], left : left + size[1]]

    def to_json(self) -> dict[str, Any]:
        return {"kind": "image", **asdict(self)}


@dataclass(frozen=True)
class TextPreprocessing:
    """A text to token ids and a mask, int64 of shape (1, length).

    Args:
        tokenizer: a tokenizer.json; in a bundle its name there.
        ids, mask: the model's inputs; mask None where the model takes none.
        types: the input of token types, all zeros; None where the model takes none.
        longest: tokens, at most; a longer text is cut.
        padded: always `longest` tokens, for a model with a fixed length.
        end: the token behind every text, where the tokenizer itself puts none.
    """

    tokenizer: str
    ids: str = "input_ids"
    mask: str | None = "attention_mask"
    types: str | None = None
    longest: int = 128
    padded: bool = False
    end: int | None = None

    def __post_init__(self) -> None:
        if not 3 <= self.longest <= MOST_TOKENS:
            raise ValueError(f"longest: found {self.longest}, a text has 3 tokens at least, {MOST_TOKENS} at most")

    def ids_of(self, text: str, tokenize: Callable[[str, int], list[int]]) -> list[int]:
        """The ids of a text, `longest` at most."""
        if self.end is None:
            return tokenize(text, self.longest)
        return [*tokenize(text, self.longest - 1), self.end]

    def inputs(self, ids: Sequence[int], padding: int = 0) -> dict[str, np.ndarray]:
        """The model's inputs for the ids of a text, special tokens and all."""
        length = self.longest if self.padded else len(ids)
        missing = length - len(ids)
        found = {self.ids: np.array([[*ids, *[padding] * missing]], np.int64)}
        if self.mask is not None:
            found[self.mask] = np.array([[1] * len(ids) + [0] * missing], np.int64)
        if self.types is not None:
            found[self.types] = np.zeros((1, length), np.int64)
        return found

    def to_json(self) -> dict[str, Any]:
        told = {"kind": "text", **asdict(self), "tokenizer": Path(self.tokenizer).name}
        return {name: value for name, value in told.items() if name != "end" or value is not None}


Preprocessing = Union[ImagePreprocessing, TextPreprocessing]


def from_json(value: Mapping[str, Any]) -> Preprocessing:
    """What `to_json` wrote.

    Raises:
        InputError: if it is neither of the two kinds, or a value is wrong.
    """
    kinds: dict[Any, type[Preprocessing]] = {"image": ImagePreprocessing, "text": TextPreprocessing}
    fields: dict[str, Any] = {
        name: tuple(found) if isinstance(found, list) else found for name, found in value.items() if name != "kind"
    }
    try:
        return kinds[value.get("kind")](**fields)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"preprocessing: cannot be used: {error}") from error
