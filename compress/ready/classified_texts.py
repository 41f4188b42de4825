"""The workload of texts, or pairs of texts, with a class each: what text_csv and huggingface's sequence classification share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.metrics import F1, Accuracy
from benchmarks.preprocessing import TextPreprocessing
from compress.padded import LengthBatches, trim
from compress.ready import ReadyContext
from compress.ready.holding_out import split
from compress.ready.tables import Row, header_of, read_rows, split_files
from compress.ready.unknown import check_known
from compress.ready.words import Encoded, Words
from compress.workload import Workload
from export.errors import InputError

CALIBRATION = 512
"""Training texts, evenly spread, for INT8 ranges."""

PAIRS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text1", "text2"),
    ("text_a", "text_b"),
)
TEXTS = ("text", "sentence", "review", "content", "document", "comment", "message", "headline", "title", "body")
LABELS = ("label", "labels", "class", "category", "target", "sentiment")
"""Names of columns that say by themselves what they hold."""

Judge = Literal["accuracy", "macro_f1"]


@dataclass(frozen=True)
class Table:
    """Where texts with a class each come from, as the options say it.

    Args:
        option: that names the path.
        text, pair, label: columns; None where their names are to be told from the header.
        max_length: tokens of a text, or of a pair.
    """

    option: str
    path: Path
    text: str | None
    pair: str | None
    label: str | None
    max_length: int
    batch_size: int


@dataclass(frozen=True)
class Network:
    """A classifier of texts.

    Args:
        inputs: names of those of `input_ids`, `attention_mask` and `token_type_ids` that it takes.
        labels: the names of its classes, in the order of its logits; empty where it does not say.
        option: that names the model.
    """

    model: nn.Module
    inputs: tuple[str, ...]
    labels: tuple[str, ...]
    option: str
    licence: str | None = None


def classified_texts(
    table: Table, network: Network, words: Words, metric: Judge, baseline: float | None, context: ReadyContext
) -> Workload:
    """The workload: dynamic length, batches of like length, padding masked."""
    rows, told = _read(table, words, context)
    names = class_names(rows["train"], network.labels, context, network.option)
    numbers = {name: number for number, name in enumerate(names)}
    encoded = {name: words.encode([row.texts for row in found], table.max_length) for name, found in rows.items()}
    labels = {name: torch.tensor([_number(row, numbers) for row in found]) for name, found in rows.items()}
    pairs = len(rows["train"][0].texts) == 2
    inputs = tuple(name for name in network.inputs if pairs or name != "token_type_ids")
    batches = {
        name: LengthBatches(_named(encoded[name], inputs), labels[name], table.batch_size, shuffle=name == "train")
        for name in rows
    }
    train = batches["train"]
    unseen, told_of_it = _unseen(train, batches["evaluation"], table)
    example = trim({name: tensor[:2] for name, tensor in train.inputs.items()})
    _check_logits(network, example, len(names), context)
    told, found = (*told, *told_of_it), encoded["train"]
    if found.cut:
        told = (
            *told,
            f"{found.cut:,} of {len(found.ids):,} training texts have more than {table.max_length} tokens and are cut",
        )
    preprocessing = None
    if words.file is not None and not pairs:
        preprocessing = TextPreprocessing(str(words.file), longest=table.max_length)
    else:
        reason = "texts come in pairs" if pairs else "the tokenizer is no tokenizer.json"
        told = (*told, f"bundles will carry no preprocessing: {reason}")
    return Workload(
        model=network.model.eval(),
        example_inputs=example,
        dynamic_axes={name: {0: "batch", 1: "length"} for name in inputs},
        train=train,
        validation=batches["validation"],
        evaluation=batches["evaluation"],
        calibration=unseen.spread(CALIBRATION),
        loss=functional.cross_entropy,
        metric=Accuracy() if metric == "accuracy" else F1("macro"),
        class_names=network.labels or names,
        baseline=baseline,
        baseline_tolerance=BASELINE_TOLERANCE,
        preprocessing=preprocessing,
        licence=network.licence,
        notes=told,
    )


BASELINE_TOLERANCE = 0.0005
"""A stated baseline is rounded to three digits or more."""


def class_names(rows: Sequence[Row], labels: tuple[str, ...], context: ReadyContext, option: str) -> tuple[str, ...]:
    """The label in the data of each class, in the order of the logits.

    The model's names for its classes where the data use them; whole numbers from 0 on as they are; else the labels that occur
    in training, sorted, if the model has no names of its own.

    Raises:
        InputError: if the model has other names for its classes: which label is which class would be a guess.
    """
    found = {row.label for row in rows}
    if labels and found <= set(labels):
        return labels
    if all(label.isascii() and label.isdigit() and str(int(label)) == label for label in found):
        highest = max(int(label) for label in found)
        return tuple(str(number) for number in range(max(highest + 1, len(labels))))
    if labels:
        shown = ", ".join(sorted(found)[:10])
        raise context.refusal(
            option,
            f"the model's classes are {', '.join(labels[:10])}, the data's labels {shown}; use the model's names, or numbers",
        )
    return tuple(sorted(found))


def _read(table: Table, words: Words, context: ReadyContext) -> tuple[dict[str, list[Row]], tuple[str, ...]]:
    files = split_files(table.path, (".csv", ".tsv"), context, table.option)
    columns = _columns(header_of(files["train"]), table, context)
    given = {name: read_rows(file, columns) for name, file in files.items()}
    keys = {name: [row.key for row in rows] for name, rows in given.items()}
    unknown = check_known(words, {files[name].name: keys[name] for name in files}, context, table.option)
    rows, told = split(given, keys, context.seed, f"{table.path.name}: texts")
    return rows, (*told, *unknown)


def _columns(header: Sequence[str], table: Table, context: ReadyContext) -> list[str]:
    """The columns with the texts and, last, the label."""
    known = {name.strip().lower(): name for name in header}
    if table.text is not None:
        texts = [table.text] + ([] if table.pair is None else [table.pair])
    else:
        pair = next((pair for pair in PAIRS if all(name in known for name in pair)), None)
        single = next(((name,) for name in TEXTS if name in known), None)
        texts = [known[name] for name in pair or single or ()]
    label = table.label or next((known[name] for name in LABELS if name in known), None)
    for option, missing in (("text", not texts), ("label", label is None)):
        if missing:
            raise context.refusal(
                table.option,
                f"the header of {table.path.name} does not say which column holds the {option}; add {option}: one of {', '.join(header)}",
            )
    assert label is not None
    return [*texts, label]


def _number(row: Row, numbers: dict[str, int]) -> int:
    if row.label not in numbers:
        known = ", ".join(list(numbers)[:10])
        raise InputError(f"{row.where}: found the label '{row.label}', which is none of those in training: {known}")
    return numbers[row.label]


def _unseen(train: LengthBatches, evaluation: LengthBatches, table: Table) -> tuple[LengthBatches, tuple[str, ...]]:
    """The training texts that may serve for INT8 ranges: none that is an evaluation text as well."""
    unseen = train.without(evaluation)
    if not unseen.samples:
        raise InputError(f"{table.path}: every training text is an evaluation text as well; give other training texts")
    shared = train.samples - unseen.samples
    note = f"{table.path.name}: {shared:,} of {train.samples:,} training texts are evaluation texts as well"
    return unseen, (note,) if shared else ()


def _named(encoded: Encoded, names: Sequence[str]) -> dict[str, Tensor]:
    every = {"input_ids": encoded.ids, "attention_mask": encoded.mask, "token_type_ids": encoded.types}
    return {name: every[name] for name in names}


def _check_logits(network: Network, example: dict[str, Tensor], classes: int, context: ReadyContext) -> None:
    from compress.user_code import guarded
    from export.calling import call

    where = context.where(network.option)
    with torch.no_grad():
        logits = guarded(lambda: call(network.model.eval(), example)[0], where, "running the model on two texts")
    if logits.ndim != 2 or logits.shape[1] != classes:
        raise context.refusal(
            network.option,
            f"the model gives outputs of shape {tuple(logits.shape)} for two texts, the data have {classes} classes, so that "
            f"(2, {classes}) are needed",
        )
