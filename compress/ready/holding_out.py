"""Validation and evaluation samples from data that come without them: drawn by a hash, so that they stay the same when data are added."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

from export.errors import InputError

Sample = TypeVar("Sample")

SHARE = 0.1
"""Of the samples, held out for validation and for evaluation each."""

SPLITS = ("train", "validation", "evaluation")
NAMES = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "evaluation": ("test",)}
"""What files and folders of each split may be called."""


def split(
    given: Mapping[str, Sequence[Sample]], keys: Mapping[str, Sequence[str]], seed: int, what: str
) -> tuple[dict[str, list[Sample]], tuple[str, ...]]:
    """All three splits, and a sentence for each that was held out of the training samples.

    Without evaluation samples the validation samples serve for evaluation, since those are what people measure on.

    Args:
        given: samples by split; "train" is among them.
        keys: what each sample is told apart by, parallel to `given`: samples of one key stay together.
        what: the samples are of, for messages: "photos: images".

    Raises:
        InputError: if a split is left without samples.
    """
    found, told = dict(given), []
    if "evaluation" not in found and "validation" in found:
        found["evaluation"] = found.pop("validation")
        told.append(f"{what}: there is no test split; the validation split serves for evaluation")
    result = {name: list(samples) for name, samples in found.items()}
    if missing := [name for name in SPLITS[1:] if name not in found]:
        result["train"] = []
        drawn: dict[str, list[Sample]] = {name: [] for name in missing}
        for sample, key in zip(found["train"], keys["train"], strict=True):
            place = int(_between_0_and_1(f"{seed}/{key}") / SHARE)
            (drawn[missing[place]] if place < len(missing) else result["train"]).append(sample)
        result |= drawn
        told += [
            f"{what}: {len(drawn[name]):,} of {len(found['train']):,} training samples are held out for {name}, chosen by a "
            f"hash and the recipe's seed"
            for name in missing
        ]
    for name in SPLITS:
        if not result[name]:
            raise InputError(f"{what}: no sample is left for {name}; give more samples, or a {name} split of your own")
    return result, tuple(told)


def _between_0_and_1(key: str) -> float:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") / 2**48
