"""What a run keeps so that its artifacts can be packed later without the data: golden inputs, and how inputs are made."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks.preprocessing import TextPreprocessing
from compress.samples import Split, samples_of
from compress.workload import Workload, to_numpy
from export.errors import InputError
from export.files import write_whole
from targets.generation import OF_THE_ANSWER

FOLDER = "device"
GOLDEN, WORKLOAD, TOKENIZER = "golden.npz", "workload.json", "tokenizer.json"
SAMPLES = 16
TEXT = "text"
"""Kind of the outputs of a model that writes."""
TOKENS = ("input_ids", "attention_mask")
"""Inputs of a prompt that have one value a token."""


@dataclass(frozen=True)
class Kept:
    """Read back from a run's folder.

    Args:
        golden: named inputs of each golden sample, a batch of one each.
        tokenizer: the tokenizer.json, where the preprocessing is of a text.
    """

    golden: tuple[Mapping[str, np.ndarray], ...]
    preprocessing: Mapping[str, Any] | None
    postprocessing: Mapping[str, Any] | None
    class_names: tuple[str, ...]
    licence: str | None
    tokenizer: Path | None


def keep(workload: Workload, validation: Split, run: Path, prompt_length: int | None = None) -> None:
    """Write them to the run's folder; the golden inputs are validation samples, evenly spread over the split.

    Args:
        prompt_length: tokens at most of the prompts of a model that writes: where it is not judged by what it writes, its
            validation samples are whole texts, and may leave no room for an answer.
    """
    every = max(1, validation.samples // SAMPLES)
    samples: Iterable[dict[str, Tensor]] = islice(samples_of(validation.batches), 0, every * SAMPLES, every)
    if workload.writing is not None:
        length = prompt_length if workload.writing.metric is None else None
        samples = (_prompt(sample, length) for sample in samples)
    preprocessing = workload.preprocessing
    if isinstance(preprocessing, TextPreprocessing):
        preprocessing = replace(preprocessing, tokenizer=TOKENIZER)
    told = {
        "preprocessing": None if preprocessing is None else preprocessing.to_json(),
        "postprocessing": _postprocessing(workload),
        "class_names": list(workload.class_names),
        "licence": workload.licence,
    }
    write_kept(run, map(to_numpy, samples), told)
    if isinstance(workload.preprocessing, TextPreprocessing):
        shutil.copyfile(workload.preprocessing.tokenizer, run / FOLDER / TOKENIZER)


def _prompt(sample: Mapping[str, Tensor], length: int | None) -> dict[str, Tensor]:
    """What of a sample is a prompt, its tokens cut to `length`."""
    found = {name: tensor for name, tensor in sample.items() if not name.startswith(OF_THE_ANSWER)}
    return {name: tensor[:, :length] if name in TOKENS else tensor for name, tensor in found.items()}


def _postprocessing(workload: Workload) -> dict[str, Any] | None:
    """Of a model that classifies: its first output holds logits, as its metric and its loss read them. Of one that writes: tokens."""
    if workload.writing is not None:
        return {"kind": TEXT, "output": "tokens", "timed_tokens": workload.writing.timed}
    if not workload.metric.classifies:
        return None
    return {"kind": "classes", "output": workload.output_names[0], "activation": "softmax"}


def write_kept(run: Path, samples: Iterable[Mapping[str, np.ndarray]], told: Mapping[str, Any]) -> None:
    """Write golden inputs, a batch of one each, and what else `read_kept` reads of a workload."""
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    arrays = {f"{index}/{name}": array for index, inputs in enumerate(samples) for name, array in inputs.items()}
    held = io.BytesIO()
    np.savez(held, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own parameters
    write_whole(folder / GOLDEN, held.getvalue())
    write_whole(folder / WORKLOAD, (json.dumps(told, indent=1) + "\n").encode())


def read_kept(run: Path) -> Kept:
    """What `keep` wrote.

    Raises:
        InputError: if the run has none, as those of an earlier version.
    """
    folder = run / FOLDER
    tokenizer = folder / TOKENIZER
    try:
        told = json.loads((folder / WORKLOAD).read_text())
        with np.load(folder / GOLDEN, allow_pickle=False) as arrays:
            samples: dict[int, dict[str, np.ndarray]] = {}
            for key in arrays.files:
                index, _, name = key.partition("/")
                samples.setdefault(int(index), {})[name] = arrays[key]
        return Kept(
            golden=tuple(samples[index] for index in sorted(samples)),
            preprocessing=told["preprocessing"],
            postprocessing=told["postprocessing"],
            class_names=tuple(told["class_names"]),
            licence=told["licence"],
            tokenizer=tokenizer if tokenizer.is_file() else None,
        )
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{run}: has no whole {FOLDER}/ folder ({error}); run the recipe again, finished parts are reused"
        ) from error
