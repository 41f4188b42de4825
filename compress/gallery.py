"""Images of the evaluation set whose prediction changed on a target: what a reader wants to see of a flip rate."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping

import numpy as np

from benchmarks.classification import class_name
from benchmarks.report import Flip
from compress.samples import samples_of
from compress.workload import Workload

EACH = 12
"""Images a target at most."""
SIDE = 96
"""Pixels on the longer side; larger images are thinned out."""


def gallery(workload: Workload, original: np.ndarray, shipped: Mapping[str, np.ndarray]) -> tuple[Flip, ...]:
    """Up to EACH flips of every target, evenly spread over the set; none where the inputs are not images.

    Args:
        original: the metric's statistics of the original, shape (samples, k).
        shipped: the same of what ships, by target.
    """
    image = _image_input(workload)
    if image is None or not workload.metric.classifies:
        return ()
    flips = {target: _spread(np.flatnonzero(rows[:, 0] != original[:, 0])) for target, rows in shipped.items()}
    wanted = set().union(*flips.values())
    pixels = _pixels(samples_of(workload.evaluation), image, wanted)
    names = workload.class_names
    return tuple(
        Flip(
            target=target,
            sample=sample,
            truth=class_name(original[sample, 1], names),
            before=class_name(original[sample, 0], names),
            after=class_name(shipped[target][sample, 0], names),
            height=pixels[sample].shape[0],
            width=pixels[sample].shape[1],
            channels=pixels[sample].shape[2],
            pixels=base64.b64encode(pixels[sample].tobytes()).decode(),
        )
        for target, samples in flips.items()
        for sample in samples
    )


def _image_input(workload: Workload) -> str | None:
    """The only input of shape (batch, 1 or 3 channels, height, width) in floating point."""
    found = [
        name
        for name, tensor in workload.example_inputs.items()
        if tensor.ndim == 4 and tensor.shape[1] in (1, 3) and tensor.is_floating_point()
    ]
    return found[0] if len(found) == 1 else None


def _spread(samples: np.ndarray) -> list[int]:
    places = np.linspace(0, len(samples) - 1, min(EACH, len(samples))).round().astype(int)
    return [int(samples[place]) for place in places]


def _pixels(samples: Iterable[Mapping[str, object]], image: str, wanted: set[int]) -> dict[int, np.ndarray]:
    """Wanted images as uint8 of shape (height, width, channels), stretched from darkest to brightest.

    How a workload normalises is not known, so the true colours are not either.
    """
    found: dict[int, np.ndarray] = {}
    for number, sample in enumerate(samples):
        if number in wanted:
            values = np.moveaxis(np.asarray(sample[image], dtype=np.float64)[0], 0, -1)
            thin = -(-max(values.shape[:2]) // SIDE)
            values = values[::thin, ::thin]
            low, high = values.min(), values.max()
            found[number] = np.round(255 * (values - low) / (high - low or 1.0)).astype(np.uint8)
        if len(found) == len(wanted):
            break
    return found
