"""How far a stage of a run is from the original on images that neither knows by heart.

    python examples/cifar10/warped.py --data FOLDER runs/resnet56-pruned/stages/0-original runs/resnet56-pruned/stages/2-distill

The published weights were trained on the validation images too and score 100 % there, so that these can guide no choice.
Turned, scaled and shifted a little (the same way at each call), the original scores about what it scores on the test images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from cifar_images import read_images
from torch import Tensor
from torch.nn import functional
from workload import training_splits

TURN, SCALE, SHIFT = 0.286, 0.132, 0.132
"""Largest angle in radians, largest change of size, largest shift as a share of half the image."""
PASSES = 2
TEMPERATURE = 4.0


def main() -> None:
    options = _options()
    _, validation, _ = training_splits(*read_images(options.data, "train"), 100)
    images = torch.cat([inputs["image"] for inputs, _ in validation])
    labels = torch.cat([target for _, target in validation])
    shown = torch.cat([warped(images, seed) for seed in range(1, PASSES + 1)])
    wanted = labels.repeat(PASSES)
    reference = answers(options.original, shown)
    right = accuracy(reference, wanted)
    print(f"{options.original}: {right:.2f} % of {len(shown):,} warped validation images")
    for stage in options.stages:
        logits = answers(stage, shown)
        agree = 100 * (logits.argmax(1) == reference.argmax(1)).float().mean().item()
        far = functional.kl_div(
            functional.log_softmax(logits / TEMPERATURE, 1),
            functional.log_softmax(reference / TEMPERATURE, 1),
            reduction="batchmean",
            log_target=True,
        )
        loses = right - accuracy(logits, wanted)
        print(f"{stage}: agrees on {agree:.2f} %, loses {loses:.2f} points, divergence {far * TEMPERATURE**2:.3f}")


def warped(images: Tensor, seed: int) -> Tensor:
    """Each image turned, scaled and shifted by random amounts, its border mirrored outwards; same shape."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator) * 2 - 1

    angle, scale, shift = drawn(len(images)) * TURN, 1 + drawn(len(images)) * SCALE, drawn(len(images), 2) * SHIFT
    across = torch.stack([scale * angle.cos(), -scale * angle.sin(), shift[:, 0]], 1)
    down = torch.stack([scale * angle.sin(), scale * angle.cos(), shift[:, 1]], 1)
    grid = functional.affine_grid(torch.stack([across, down], 1), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def answers(stage: Path, images: Tensor) -> Tensor:
    """Logits of a stage's model.onnx, through ONNX Runtime."""
    import onnxruntime  # after ours, which keeps it from reporting to its vendor

    session = onnxruntime.InferenceSession(stage / "model.onnx", providers=["CPUExecutionProvider"])
    found = [session.run(None, {"image": batch.numpy()})[0] for batch in images.split(250)]
    return torch.from_numpy(np.concatenate(found))


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """In percent."""
    return 100 * (logits.argmax(1) == labels).float().mean().item()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Stages of a run against the original, on warped validation images.")
    parser.add_argument("--data", type=Path, required=True, help="folder with the sheets of CIFAR-10")
    parser.add_argument("original", type=Path, help="stages/0-original of a run")
    parser.add_argument("stages", type=Path, nargs="+", help="other stages of it")
    return parser.parse_args()


if __name__ == "__main__":
    main()
