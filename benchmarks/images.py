"""Images with numpy alone: reading PNG, PPM and PGM, and resizing as Pillow does. Other formats need Pillow."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from export.errors import InputError, UnsupportedError

MOST_PIXELS = 1 << 26
"""64 megapixels: what a file may ask for before it is believed."""

_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_SAMPLES = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGBA: 4}


def read_image(path: Path, channels: str) -> np.ndarray:
    """The pixels of an image file, uint8 (height, width, 3) for "RGB", (height, width) for "L".

    Raises:
        InputError: if there is no such file, or it is not a whole image.
        UnsupportedError: if its format takes Pillow, which is not installed.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give an image file") from error
    if content.startswith(b"\x89PNG\r\n\x1a\n") and content[28:29] != b"\1":  # interlaced ones go to Pillow
        try:
            pixels = _png(content)
        except (ValueError, IndexError, struct.error, zlib.error) as error:
            raise InputError(f"{path}: is no whole PNG image ({error})") from error
        return _in_channels(pixels, channels)
    if find_spec("PIL") is None:
        raise UnsupportedError(
            f"{path}: only PNG images without interlacing are read without Pillow; pip install pillow"
        )
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert(channels))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be read as an image ({error})") from error


def resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear with antialiasing, as Pillow's BILINEAR: the triangle is as wide as the step between the new pixels.

    Args:
        pixels: uint8 (height, width) or (height, width, channels).
        size: new height and width.

    Source: python-pillow.org, "Filters"; rows after columns, each rounded to uint8 as Pillow does.
    """
    height, width = size
    across = _rounded(np.einsum("ow,hw...->ho...", _triangle(pixels.shape[1], width), pixels.astype(np.float64)))
    return _rounded(np.einsum("oh,hw...->ow...", _triangle(pixels.shape[0], height), across.astype(np.float64)))


def _triangle(old: int, new: int) -> np.ndarray:
    """Weights of shape (new, old); each row adds up to 1."""
    step = old / new
    reach = max(step, 1.0)
    middle = (np.arange(new)[:, None] + 0.5) * step
    weights = np.maximum(0.0, 1.0 - np.abs(np.arange(old)[None] + 0.5 - middle) / reach)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)


def _png(content: bytes) -> np.ndarray:
    """Pixels of shape (height, width, 1, 2, 3 or 4), palettes looked up, depths other than 8 bits brought to 8.

    Source: W3C, Portable Network Graphics (third edition), sections 5, 9 and 11.
    """
    data, palette, header = b"", np.zeros((0, 3), np.uint8), b""
    for kind, body in _chunks(content):
        if kind == b"IHDR":
            header = body
        elif kind == b"PLTE":
            palette = np.frombuffer(body, np.uint8).reshape(-1, 3)
        elif kind == b"IDAT":
            data += body
    width, height, depth, colour, _, _, _ = struct.unpack(">IIBBBBB", header)
    if colour not in _SAMPLES or depth not in (1, 2, 4, 8, 16) or not 0 < width * height <= MOST_PIXELS:
        raise ValueError(f"{width} x {height} pixels of kind {colour} with {depth} bits")
    samples = _SAMPLES[colour]
    row_bytes = -(-width * samples * depth // 8)
    expected = height * (row_bytes + 1)
    raw = zlib.decompressobj().decompress(data, expected)
    if len(raw) != expected:
        raise ValueError(f"{len(raw)} bytes of pixels, {expected} are needed")
    lines = np.frombuffer(raw, np.uint8).reshape(height, row_bytes + 1)
    plain = _unfiltered(lines[:, 0], lines[:, 1:], max(1, samples * depth // 8))
    values = _in_eight_bits(plain, depth, width * samples, scaled=colour != _PALETTE).reshape(height, width, samples)
    return palette[values[..., 0]] if colour == _PALETTE else values


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 8
    while place < len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        body = content[place + 8 : place + 8 + length]
        (crc,) = struct.unpack_from(">I", content, place + 8 + length)
        if zlib.crc32(kind + body) != crc:
            raise ValueError("a checksum is wrong")
        yield kind, body
        if kind == b"IEND":
            return
        place += 12 + length
    raise ValueError("its end is missing")


def _unfiltered(filters: np.ndarray, lines: np.ndarray, step: int) -> np.ndarray:
    """Each line holds differences to its neighbours, of the kind that its filter says; `step` bytes make a pixel."""
    plain = np.zeros_like(lines)
    above = np.zeros(lines.shape[1], np.uint8)
    for row, (kind, line) in enumerate(zip(filters, lines)):
        if kind == 0:
            plain[row] = line
        elif kind == 1:
            for lane in range(step):
                plain[row, lane::step] = np.cumsum(line[lane::step], dtype=np.uint8)
        elif kind == 2:
            plain[row] = line + above
        elif kind in (3, 4):
            plain[row] = _from_left(line, above, step, average=kind == 3)
        else:
            raise ValueError(f"filter {kind}")
        above = plain[row]
    return plain


def _from_left(line: np.ndarray, above: np.ndarray, step: int, average: bool) -> np.ndarray:
    """The two filters in which each byte depends on the one before it."""
    out = [0] * len(line)
    up_row = above.tolist()
    for place, difference in enumerate(line.tolist()):
        left = out[place - step] if place >= step else 0
        up, corner = up_row[place], up_row[place - step] if place >= step else 0
        if average:
            guess = (left + up) // 2
        else:
            away = (abs(up - corner), abs(left - corner), abs(left + up - 2 * corner))
            guess = (left, up, corner)[away.index(min(away))]
        out[place] = difference + guess & 255
    return np.array(out, np.uint8)


def _in_eight_bits(lines: np.ndarray, depth: int, values: int, scaled: bool) -> np.ndarray:
    if depth == 8:
        return lines
    if depth == 16:
        return lines[:, 0::2]
    bits = np.unpackbits(lines, axis=1)[:, : values * depth].reshape(len(lines), values, depth)
    found = bits @ (1 << np.arange(depth)[::-1])
    return (found * (255 // ((1 << depth) - 1)) if scaled else found).astype(np.uint8)


def _in_channels(pixels: np.ndarray, channels: str) -> np.ndarray:
    """Transparency is left out; grey from colour by ITU-R 601, as Pillow's convert("L")."""
    if pixels.shape[2] in (2, 4):
        pixels = pixels[..., :-1]
    if channels == "RGB":
        return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
    if pixels.shape[2] == 1:
        return pixels[..., 0]
    red, green, blue = (pixels[..., index].astype(np.uint32) for index in range(3))
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000 >> 16).astype(np.uint8)
