"""A real bundle around a tiny network, small enough that a test can afford one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from targets import FP32, target_class
from targets.isa import architecture
from tests.export.bundle.bundles import bundle_files, npy, zip_bytes
from tests.targets import networks

SAMPLES = 3


def real_files(
    folder: Path,
    target: str = "onnxruntime_mobile",
    outputs: Callable[[np.ndarray], np.ndarray] = lambda array: array,
    change: Callable[[dict[str, Any]], None] = lambda value: None,
) -> dict[str, bytes]:
    """The files of a bundle whose golden outputs are the engine's own, by way of `outputs`."""
    chosen = target_class(target)()
    if reason := chosen.unavailable() or chosen.cannot_run():
        pytest.skip(reason)
    made = folder / "model"
    made.mkdir(parents=True)
    engine = chosen.compile(networks.convolutional(folder / "in.onnx"), FP32, made)
    images = np.random.default_rng(0).normal(size=(SAMPLES, 3, 12, 12)).astype(np.float32)
    with chosen.load(engine, 1) as session:
        expected = np.concatenate([session.run({"image": image[None]})["logits"].copy() for image in images])

    def real(value: dict[str, Any]) -> None:
        told = engine.to_json(folder)
        del told["facts"]
        value["engine"] = told
        value["runtime"]["architecture"] = told["settings"].get("platform", "any")
        value["class_names"] = ["north", "east", "south", "west"]
        value["golden"] |= {
            "tolerance": {"logits": 0.001},
            "groups": [
                {
                    "samples": SAMPLES,
                    "inputs": {"image": "golden/0-in-0.npy"},
                    "outputs": {"logits": "golden/0-out-0.npy"},
                }
            ],
        }
        change(value)

    arrays = {"golden/0-in-0.npy": npy(images), "golden/0-out-0.npy": npy(outputs(expected))}
    model = {file.relative_to(folder).as_posix(): file.read_bytes() for file in engine.files}
    return bundle_files(target, extra=arrays | model, change=real)


def real_bundle(folder: Path, **options: Any) -> Path:
    path = folder / "x.compress"
    path.write_bytes(zip_bytes(real_files(folder / "made", **options)))
    return path


def other_architecture(value: dict[str, Any]) -> None:
    value["runtime"]["architecture"] = "arm64" if architecture() == "amd64" else "amd64"
