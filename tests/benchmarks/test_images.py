"""Images against Pillow: reading exactly, resizing to within a step of rounding."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from benchmarks.images import MOST_PIXELS, read_image, resized
from export.errors import InputError, UnsupportedError

pillow = pytest.importorskip("PIL.Image")
RNG = np.random.default_rng(0)
SIZES = [(1, 1), (7, 5), (33, 18)]


def noise(size: tuple[int, int], channels: int = 0) -> np.ndarray:
    """Noise in the left half, a slope in the right: a writer then chooses several of the filters."""
    width, height = size
    made = RNG.integers(0, 256, (height, width, max(1, channels)), dtype=np.uint8)
    made[:, width // 2 :] = (np.arange(width - width // 2)[None, :, None] * 3 + np.arange(height)[:, None, None]) % 256
    return made if channels else made[..., 0]


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
@pytest.mark.parametrize("channels", ["RGB", "L"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["RGB", "RGBA", "L", "LA", "1", "P1", "P2", "P4", "P8", "P with transparency"])
def test_a_png_of_every_kind_is_read_as_pillow_reads_it(
    tmp_path: Path, kind: str, size: tuple[int, int], channels: str
) -> None:
    options = {}
    if kind.startswith("P"):
        bits = int(kind[1]) if kind[1].isdecimal() else 4
        image = pillow.fromarray(noise(size, 3)).quantize(1 << bits)
        options = {"bits": bits} if "transparency" not in kind else {"transparency": 1}
    else:
        image = pillow.fromarray(noise(size, 3)).convert(kind)
        if kind[-1] == "A":
            image.putalpha(pillow.fromarray(noise(size)))
    image.save(tmp_path / "x.png", **options)
    with pillow.open(tmp_path / "x.png") as saved:
        expected = np.asarray(saved.convert(channels))
    np.testing.assert_array_equal(read_image(tmp_path / "x.png", channels), expected)


def png(header: tuple[int, ...], raw: bytes, **chunks: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    more = b"".join(chunk(name.encode(), body) for name, body in chunks.items())
    first = chunk(b"IHDR", struct.pack(">IIBBBBB", *header))
    return b"\x89PNG\r\n\x1a\n" + first + more + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("filter_", range(5))
def test_every_filter(tmp_path: Path, filter_: int) -> None:
    """Lines written with one filter throughout, so that it meets the first line and the first pixel, too."""
    width, height = 6, 4
    lines = RNG.integers(0, 256, (height, width * 3), dtype=np.uint8)
    raw = b"".join(bytes([filter_]) + line.tobytes() for line in lines)
    (tmp_path / "x.png").write_bytes(png((width, height, 8, 2, 0, 0, 0), raw))
    with pillow.open(tmp_path / "x.png") as saved:
        np.testing.assert_array_equal(read_image(tmp_path / "x.png", "RGB"), np.asarray(saved))


def test_16_bits_of_grey_become_8_by_their_upper_half(tmp_path: Path) -> None:
    """Pillow cuts them off at 255 instead, so that nearly all are white; of colour it takes the upper half, too."""
    values = RNG.integers(0, 1 << 16, (5, 7)).astype(np.uint16)
    pillow.fromarray(values).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_image(tmp_path / "x.png", "L"), values >> 8)
    raw = b"".join(b"\0" + np.repeat(line, 3).astype(">u2").tobytes() for line in values)
    (tmp_path / "y.png").write_bytes(png((7, 5, 16, 2, 0, 0, 0), raw))
    with pillow.open(tmp_path / "y.png") as saved:
        np.testing.assert_array_equal(read_image(tmp_path / "y.png", "RGB"), np.asarray(saved))


def test_other_formats_go_to_pillow_or_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noise((9, 6), 3)
    pillow.fromarray(pixels).save(tmp_path / "x.bmp")
    np.testing.assert_array_equal(read_image(tmp_path / "x.bmp", "RGB"), pixels)
    monkeypatch.setattr("benchmarks.images.find_spec", lambda name: None)
    with pytest.raises(
        UnsupportedError, match="only PNG images without interlacing are read without Pillow; pip install"
    ):
        read_image(tmp_path / "x.bmp", "RGB")


def test_a_file_that_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.png: No such file or directory; give an image file"):
        read_image(tmp_path / "none.png", "RGB")
    (tmp_path / "x.png").write_bytes(b"text")
    with pytest.raises(InputError, match="cannot be read as an image"):
        read_image(tmp_path / "x.png", "RGB")


WHOLE = png((2, 2, 8, 2, 0, 0, 0), b"\0abcdef" * 2)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        *((WHOLE[:length], "") for length in range(8, len(WHOLE) - 1)),
        (WHOLE[:40] + b"\xff" + WHOLE[41:], ""),
        (png((1 << 20, 1 << 20, 8, 2, 0, 0, 0), b""), "1048576 x 1048576 pixels of kind 2 with 8 bits"),
        (png((0, 2, 8, 2, 0, 0, 0), b""), "0 x 2 pixels"),
        (png((2, 2, 3, 2, 0, 0, 0), b""), "with 3 bits"),
        (png((2, 2, 8, 5, 0, 0, 0), b""), "of kind 5"),
        (png((2, 2, 8, 2, 0, 0, 0), b"\0abc"), "4 bytes of pixels, 14 are needed"),
        (png((2, 2, 8, 2, 0, 0, 0), b"\x09abcdef" * 2), "filter 9"),
        (png((2, 1, 8, 3, 0, 0, 0), b"\0\0\7", PLTE=b"abc"), "out of bounds"),
        (png((2, 1, 8, 3, 0, 0, 0), b"\0\0\0", PLTE=b"ab"), "reshape"),
    ],
)
def test_a_damaged_png_is_told(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(InputError, match=rf"x\.png: is no whole PNG image \(.*{reason}"):
        read_image(tmp_path / "x.png", "RGB")


def test_a_bomb_is_not_unpacked_beyond_its_header(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png((2, 2, 8, 2, 0, 0, 0), bytes(1 << 24)))
    assert read_image(tmp_path / "x.png", "RGB").shape == (2, 2, 3)
    assert MOST_PIXELS * 8 < 1 << 30


@pytest.mark.parametrize("shape", [(50, 40, 3), (13, 99), (120, 90, 3), (1, 1, 3)])
@pytest.mark.parametrize("size", [(10, 10), (64, 80), (7, 120), (1, 1)])
def test_resizing_is_pillows_to_within_one_step(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
    expected = np.asarray(pillow.fromarray(pixels).resize((size[1], size[0]), pillow.Resampling.BILINEAR))
    found = resized(pixels, size)
    assert found.dtype == np.uint8 and found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_a_size_that_stays_changes_nothing() -> None:
    pixels = noise((9, 6), 3)
    np.testing.assert_array_equal(resized(pixels, (6, 9)), pixels)
