"""Preprocessing as part of the exported graph: a camera's pixels in, the same answers out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import compress
from benchmarks.preprocessing import ImagePreprocessing
from compress.from_pixels import pixels_of
from compress.load_workload import load_workload
from compress.recipe import load_recipe
from export.errors import InputError
from tests.compress.tiny import RECIPE, write_tiny

WITH_PREPROCESSING = """

def from_camera(mean=(6.0,), **changes):
    import dataclasses

    from benchmarks.preprocessing import ImagePreprocessing

    prepared = ImagePreprocessing("image", size=(12, 12), channels="L", scale=12 / 255, mean=tuple(mean))
    return dataclasses.replace(tiny(), **{"preprocessing": prepared, **changes})
"""
FUSED = RECIPE.replace("workload.py:tiny", "workload.py:from_camera") + "export: {fuse_preprocessing: true}\n"


def written(folder: Path, recipe: str = FUSED) -> Path:
    path = write_tiny(folder, recipe)
    with (folder / "workload.py").open("a") as file:
        file.write(WITH_PREPROCESSING)
    return path


def test_what_ships_takes_pixels_and_answers_as_the_model_does_on_floats(tmp_path: Path) -> None:
    recipe = written(tmp_path)
    mixed = "steps.1.distill={epochs: 1, learning_rate: 0.01, teacher_weight: 1.0, mixup: 0.5}"
    report = compress.run(recipe, tmp_path / "run", [mixed])
    assert report.rows[0].evaluation is not None
    assert report.rows[0].evaluation.value > 0.9
    plain = load_workload(load_recipe(recipe, ["export.fuse_preprocessing=false"]))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 12, 12, 1), dtype=np.uint8)
    session = onnxruntime.InferenceSession(tmp_path / "run/stages/0-original/model.onnx")
    [entry] = session.get_inputs()
    assert (entry.type, entry.shape[1:]) == ("tensor(uint8)", [12, 12, 1])
    with torch.no_grad():
        expected = plain.model(torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32)) * (12 / 255) - 6)
    np.testing.assert_allclose(session.run(None, {"image": pixels})[0], expected.numpy(), atol=1e-4)


def test_training_stays_in_floats_and_every_other_split_gives_pixels(tmp_path: Path) -> None:
    workload = load_workload(load_recipe(written(tmp_path), []))
    splits = {
        name: next(iter(getattr(workload, name)))[0]["image"]
        for name in ("train", "validation", "calibration", "evaluation")
    }
    assert {name: image.dtype for name, image in splits.items()} == {
        "train": torch.float32,
        "validation": torch.uint8,
        "calibration": torch.uint8,
        "evaluation": torch.uint8,
    }
    assert workload.dynamic_axes == {"image": {0: "batch"}}
    assert isinstance(workload.preprocessing, ImagePreprocessing)
    assert workload.preprocessing.fused
    pixels = np.full((12, 12), 200, np.uint8)
    assert workload.preprocessing(pixels)["image"].tolist() == np.full((1, 12, 12, 1), 200).tolist()


def test_pixels_come_back_exactly() -> None:
    preprocessing = ImagePreprocessing("image", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    floats = np.concatenate([preprocessing(image)["image"] for image in pixels])
    assert floats.shape == (2, 3, 5, 7)
    back = pixels_of({"image": torch.from_numpy(floats)}, preprocessing, "here")["image"]
    np.testing.assert_array_equal(back.numpy(), pixels)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["arguments={preprocessing: null}"], "the workload has none for images"),
        (["arguments={mean: [0.0]}"], r"stand for pixels from -\d+\.\d to \d+\.\d, not 0 to 255"),
    ],
)
def test_refusals(overrides: list[str], told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told):
        list(load_workload(load_recipe(written(tmp_path), overrides)).evaluation)
