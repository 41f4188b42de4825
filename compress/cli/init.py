"""`compress init`: a commented recipe for a model of the user's own, and a workload in Python where none is ready-made."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from benchmarks.report import write_text_whole
from export.errors import InputError

if TYPE_CHECKING:
    from compress.ready.model_folder import ModelFolder

MAX_LENGTH = 128
TIMED_LENGTH = 64
"""Tokens; what a text workload cuts at, and what is timed, unless the model reads fewer."""

TEXT_BUDGET = "metric_drop: 0.01                   # against the original, in the metric's unit"
BUDGETS = {
    "masked-lm": "metric_drop_percent: 3              # of the original's perplexity",
    "causal-lm": "metric_drop_percent: 3              # of the original's perplexity",
    "seq2seq": "metric_drop: 1.0                    # of BLEU",
}
DATA = {
    "sequence-classification": "a .csv or .tsv file, or a folder with train, validation and test as such files",
    "token-classification": "a CoNLL file (a word and its tag a line), or a folder with train.conll and others",
    "masked-lm": "a .txt file, or a folder with train.txt, validation.txt and test.txt",
    "causal-lm": "a .txt file, or a folder with train.txt, validation.txt and test.txt",
    "seq2seq": "a .tsv or .csv file of two columns, or a folder with train, validation and test as such files",
    "image-classification": "a folder with a folder of images for each class, or with train/CLASS and test/CLASS",
}


def name_of(folder: Path) -> str:
    """A run's name out of the folder's: two recipes in two folders do not meet in one folder of runs/."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-._")[:64] or "my-model"


def write_starter(folder: Path, name: str) -> list[Path]:
    """Write recipe.yaml and workload.py into `folder`.

    Raises:
        InputError: if one of them is there already; nothing is written then.
    """
    files = [folder / "recipe.yaml", folder / "workload.py"]
    _refuse_existing(files)
    for file in files:
        write_text_whole(file, _template(file.name).replace("my-model", name))
    return files


def write_for_model(folder: Path, name: str, model: Path, data: Path | None) -> Path:
    """Write a recipe for a folder in transformers' format; the model and the data are not looked into.

    Args:
        data: what it is to be judged on; None leaves a placeholder, which `compress check` explains.

    Raises:
        InputError: if the folder is not in that format, its task is not ready-made, or a recipe is there already.
    """
    from compress.ready import PLACEHOLDER, ReadyContext
    from compress.ready.model_folder import AUTO, open_folder

    context = ReadyContext(Path(), 0, {}, lambda *_: "--model")
    found, file = open_folder(context, "path", str(model)), folder / "recipe.yaml"
    task = found.task
    if task is None:
        raise InputError(
            f"--model: the architectures of {model / 'config.json'} ({', '.join(found.config.get('architectures') or ()) or 'none'}) "
            f"are of no task that is ready-made: {', '.join(AUTO)}; write a workload in Python: compress init without --model"
        )
    _refuse_existing([file])
    places = {"model": _seen_from(folder, model), "data": PLACEHOLDER if data is None else _seen_from(folder, data)}
    length, timed, options = _lengths(task, found.positions())
    values = {
        "model": str(model),
        "recipe": str(file),
        "name": name,
        "workload": _image_folder(places, found)
        if task == "image-classification"
        else _huggingface(places, task, {"max_length": length, **options}),
        "optimizer": "adamw",
        "learning_rate": "0.0001",
        "targets": _targets(),
        "sizes": "" if task == "image-classification" else f"  sizes: {{length: {timed}}}\n",
        "budget": BUDGETS.get(task, TEXT_BUDGET),
    }
    write_text_whole(file, Template(_template("model.yaml")).substitute(values))
    return file


def _lengths(task: str, positions: int | None) -> tuple[int, int, dict[str, int]]:
    """Tokens that a text is cut at, tokens that are timed, and further options where the model has few places for an answer."""
    from compress.ready import language_model, translation

    answer = {"causal-lm": language_model.NEW_TOKENS, "seq2seq": translation.NEW_TOKENS}.get(task, 0)
    length = min(MAX_LENGTH, positions or MAX_LENGTH)
    timed = min(TIMED_LENGTH, length)
    if not answer or positions is None or positions >= timed + answer:
        return length, timed, {}
    return length, positions // 2, {"new_tokens": positions // 2}


def _huggingface(places: Mapping[str, str], task: str, options: Mapping[str, int]) -> str:
    lines = [
        "  huggingface:",
        f"    path: {json.dumps(places['model'])}",
        f"    task: {task}",
        f"    data: {json.dumps(places['data'])}    # {DATA[task]}",
        *(f"    {name}: {value}" for name, value in options.items()),
    ]
    return "\n".join(lines)


def _image_folder(places: Mapping[str, str], folder: ModelFolder) -> str:
    """Size, mean and std are left to the folder where it says them."""
    lines = [
        f"    root: {json.dumps(places['data'])}    # {DATA['image-classification']}",
        f"    model: {json.dumps(places['model'])}",
    ]
    if not (folder.path / "preprocessor_config.json").is_file():
        lines.append(
            "    size: 224                         # as in training; the folder has no preprocessor_config.json\n"
            "    mean: [0.485, 0.456, 0.406]\n"
            "    std: [0.229, 0.224, 0.225]"
        )
    return "\n".join(["  image_folder:", *lines])


def _targets() -> str:
    """One a line; those that cannot be compiled for here are marked out."""
    from targets import REGISTRY

    lines = []
    for name in REGISTRY.builtin:
        reason = REGISTRY.load(name)().unavailable()
        lines.append(
            f"  - {name}"
            if reason is None
            else f"  # - {name}    # cannot be compiled for here; compress doctor says why"
        )
    return "\n".join(lines)


def _seen_from(folder: Path, path: Path) -> str:
    """As a recipe in `folder` names it: relative to it, unless an absolute path was given."""
    return str(path) if path.is_absolute() else os.path.relpath(path.resolve(), folder.resolve())


def _refuse_existing(files: list[Path]) -> None:
    for file in files:
        if file.exists():
            raise InputError(f"{file}: is there already; give another folder, or move it away")
    files[0].parent.mkdir(parents=True, exist_ok=True)


def _template(name: str) -> str:
    return (resources.files("compress.cli") / "templates" / f"{name}.txt").read_text(encoding="utf-8")
