"""One image or text through a bundle's engine: the classes that it finds likeliest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.device.selftest import engine_of, loaded
from benchmarks.images import read_image
from benchmarks.preprocessing import ImagePreprocessing, from_json
from benchmarks.wordpiece import load_tokenizer
from export.bundle.manifest import Manifest
from export.errors import InputError

TOP = 5


@dataclass(frozen=True)
class Guess:
    """A class, by its name or number, and its probability."""

    label: str
    probability: float


def predict(manifest: Manifest, folder: Path, given: str, threads: int = 1) -> list[Guess]:
    """The likeliest classes first, at most TOP.

    Args:
        given: the path of an image, or a text, as the model takes it.

    Raises:
        InputError: if the bundle tells no preprocessing, the image cannot be read, or the output is no row of classes.
    """
    if manifest.preprocessing is None:
        raise InputError(
            "the bundle does not say how an image or text becomes the model's input; give the workload a "
            "`preprocessing`, run and pack again"
        )
    target, engine = engine_of(manifest, folder)
    recipe = from_json(manifest.preprocessing)
    if isinstance(recipe, ImagePreprocessing):
        inputs = recipe(read_image(Path(given), recipe.channels))
    else:
        tokenize, padding = load_tokenizer(folder / recipe.tokenizer)
        inputs = recipe.inputs(recipe.ids_of(given, tokenize), padding)
    with loaded(target, engine, threads) as session:
        outputs = session.run(inputs)
    wanted = (manifest.postprocessing or {}).get("output", next(iter(outputs)))
    if wanted not in outputs:
        raise InputError(f"the engine has no output {wanted!a}, of which the manifest tells; pack the run again")
    return guesses(np.asarray(outputs[wanted]), manifest.class_names)


def guesses(logits: np.ndarray, class_names: tuple[str, ...]) -> list[Guess]:
    """From logits of shape (1, classes); of a single logit z the classes are (0, z)."""
    if logits.ndim != 2 or len(logits) != 1:
        raise InputError(f"the model's output has shape {logits.shape}; predict tells classes, of shape (1, classes)")
    row = logits[0].astype(np.float64)
    if len(row) == 1:
        row = np.array([0.0, row[0]])
    shares = np.exp(row - row.max())
    shares /= shares.sum()
    names = class_names if len(class_names) == len(row) else tuple(map(str, range(len(row))))
    return [Guess(names[index], float(shares[index])) for index in np.argsort(-shares, kind="stable")[:TOP]]
