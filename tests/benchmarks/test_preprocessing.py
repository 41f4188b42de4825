from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

from benchmarks.preprocessing import ImagePreprocessing, TextPreprocessing, from_json
from export.errors import InputError

RNG = np.random.default_rng(0)


def test_an_image_becomes_what_torchvisions_usual_transform_gives() -> None:
    """Resize(40), CenterCrop(32), ToTensor, Normalize, each step by Pillow and by its formula."""
    pillow = pytest.importorskip("PIL.Image")
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    pixels = RNG.integers(0, 256, (60, 90, 3), dtype=np.uint8)
    found = ImagePreprocessing("image", size=(32, 32), shorter=40, mean=mean, std=std)(pixels)
    assert list(found) == ["image"] and found["image"].dtype == np.float32 and found["image"].flags.c_contiguous
    smaller = np.asarray(pillow.fromarray(pixels).resize((60, 40), pillow.Resampling.BILINEAR))
    expected = (smaller[4:36, 14:46] / 255 - mean) / std
    step = 1 / 255 / min(std)
    assert found["image"].shape == (1, 3, 32, 32)
    assert np.abs(found["image"][0].transpose(1, 2, 0) - expected).max() <= step * 1.001


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3)])
def test_without_a_size_the_values_are_only_scaled(shape: tuple[int, ...]) -> None:
    pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
    recipe = ImagePreprocessing("x", channels="RGB" if len(shape) == 3 else "L", scale=1 / 16, mean=(1.0,), std=(2.0,))
    expected = (pixels.reshape(8, 8, -1).transpose(2, 0, 1)[None] / 16 - 1) / 2
    np.testing.assert_allclose(recipe(pixels)["x"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"channels": "BGR"}, "channels: found 'BGR', allowed: 'RGB', 'L'"),
        ({"shorter": 10}, "shorter: found 10 with size None; it must be at least the size cut from it"),
        ({"size": (8, 16), "shorter": 10}, "shorter: found 10 with size (8, 16)"),
        ({"mean": (1.0, 2.0)}, "mean: found 2 values, 3 or 1 are meant"),
        ({"std": (0.0,)}, "std: found 0.0, each must be above 0"),
    ],
)
def test_settings_that_make_no_sense(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        ImagePreprocessing("x", **fields)


def test_ids_get_a_mask_and_where_asked_types_and_padding() -> None:
    plain = TextPreprocessing("t.json").inputs([1, 7, 2])
    assert {name: array.tolist() for name, array in plain.items()} == {
        "input_ids": [[1, 7, 2]],
        "attention_mask": [[1, 1, 1]],
    }
    padded = TextPreprocessing("t.json", mask=None, types="types", longest=5, padded=True).inputs([1, 7, 2], padding=9)
    assert {name: array.tolist() for name, array in padded.items()} == {
        "input_ids": [[1, 7, 2, 9, 9]],
        "types": [[0, 0, 0, 0, 0]],
    }
    assert all(array.dtype == np.int64 for array in (*plain.values(), *padded.values()))


@pytest.mark.parametrize(
    "recipe",
    [
        ImagePreprocessing("x", size=(4, 6), shorter=8, mean=(0.1, 0.2, 0.3), std=(1.0,)),
        TextPreprocessing("tokenizer.json", types="t", longest=64, padded=True),
    ],
)
def test_it_travels_as_json(recipe: ImagePreprocessing | TextPreprocessing) -> None:
    assert from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_no_path_of_the_machine_travels() -> None:
    assert TextPreprocessing("/home/someone/tokenizer.json").to_json()["tokenizer"] == "tokenizer.json"


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"kind": "sound"},
        {"kind": []},
        {"kind": "image"},
        {"kind": "image", "input": "x", "more": 1},
        {"kind": "image", "input": "x", "std": ["a"]},
        {"kind": "image", "input": "x", "std": []},
        {"kind": "image", "input": "x", "size": 3, "shorter": 4},
        {"kind": "image", "input": "x", "size": [1 << 20, 1 << 20]},
        {"kind": "image", "input": "x", "size": [0, 4]},
        {"kind": "image", "input": "x", "size": [4]},
        {"kind": "image", "input": "x", "size": ["4", 4]},
        {"kind": "image", "input": "x", "size": [4, 4], "shorter": 1 << 30},
        {"kind": "text", "tokenizer": "t", "longest": "many"},
        {"kind": "text", "tokenizer": "t", "longest": 1 << 40},
    ],
)
def test_what_a_bundle_says_wrongly_is_one_sentence(value: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="preprocessing: cannot be used: "):
        from_json(value)
