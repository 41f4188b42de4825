"""The THUCNews workloads: which class a Chinese headline is of, and which character was masked in it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from bert import HeadlineClassifier, MaskedLanguageModel, cross_entropy, encoder
from headlines import (
    CALIBRATION_SEED,
    LONGEST,
    TEST_SEED,
    VALIDATION_SEED,
    MaskedBatches,
    label_batches,
    masked_once,
    read_headlines,
)
from tokenizers import Tokenizer

from benchmarks.metrics import F1, Accuracy, TokenAccuracy
from benchmarks.preprocessing import TextPreprocessing
from compress.checkpoint import load_weights, stated
from compress.padded import LengthBatches, trim
from compress.workload import Workload
from export.errors import InputError

CALIBRATION = 512
DYNAMIC = {name: {0: "batch", 1: "length"} for name in ("input_ids", "attention_mask")}


def headlines(
    *, data: str, weights: str, batch_size: int = 64, metric: Literal["accuracy", "macro_f1"] = "accuracy"
) -> Workload:
    """The ten classes of headlines; relative paths start from the current directory.

    Args:
        data: folder with class.txt, dev.txt and test.txt.
        weights: folder that train.py wrote.
        batch_size: of training.
        metric: accuracy, or macro_f1: the mean of the classes' F1.
    """
    metrics = {"accuracy": Accuracy(), "macro_f1": F1("macro")}
    if metric not in metrics:
        raise InputError(f"examples/thucnews: metric must be one of {', '.join(metrics)}, found {metric!r}")
    path, tokenizer = _existing(Path(weights), "headlines.safetensors")
    told = read_headlines(Path(data))
    model = HeadlineClassifier(encoder(tokenizer.get_vocab_size()), len(told.classes))
    load_weights(model, path)
    train, validation, test = (
        label_batches(tokenizer, split, batch_size, shuffle=split is told.train)
        for split in (told.train, told.validation, told.test)
    )
    return Workload(
        model=model.eval(),
        example_inputs=_example(train),
        dynamic_axes=DYNAMIC,
        train=train,
        validation=validation,
        evaluation=test,
        calibration=train.without(test).spread(CALIBRATION),
        loss=cross_entropy,
        metric=metrics[metric],
        class_names=told.classes,
        baseline=stated(path, "test_accuracy") if metric == "accuracy" else None,
        baseline_tolerance=0.002,
        preprocessing=TextPreprocessing(str(path.with_name("tokenizer.json")), longest=LONGEST),
    )


def masked(*, data: str, weights: str, batch_size: int = 64) -> Workload:
    """The masked language model that the headlines' encoder was pretrained as; arguments as above.

    Training masks anew at every pass; validation and test headlines have the same tokens masked each time.
    """
    path, tokenizer = _existing(Path(weights), "masked.safetensors")
    told = read_headlines(Path(data))
    words = tokenizer.get_vocab_size()
    model = MaskedLanguageModel(encoder(words))
    load_weights(model, path)
    train = label_batches(tokenizer, told.train, batch_size, shuffle=True)
    return Workload(
        model=model.eval(),
        example_inputs=_example(train),
        dynamic_axes=DYNAMIC,
        train=MaskedBatches(train, words),
        validation=masked_once(tokenizer, told.validation, batch_size, VALIDATION_SEED),
        evaluation=masked_once(tokenizer, told.test, batch_size, TEST_SEED),
        calibration=masked_once(tokenizer, told.train, batch_size, CALIBRATION_SEED).spread(CALIBRATION),
        loss=cross_entropy,
        metric=TokenAccuracy(),
        baseline=stated(path, "test_token_accuracy"),
        baseline_tolerance=0.002,
    )


def _example(batches: LengthBatches) -> dict[str, torch.Tensor]:
    return trim({name: tensor[:2] for name, tensor in batches.inputs.items()})


def _existing(folder: Path, name: str) -> tuple[Path, Tokenizer]:
    """The path of the weights, and the tokenizer beside them."""
    for path in (folder / name, folder / "tokenizer.json"):
        if not path.is_file():
            raise InputError(
                f"examples/thucnews: {path} is missing; make it with: python examples/thucnews/train.py --data FOLDER "
                f"--out {folder}; then name the folder with --set arguments.weights=FOLDER"
            )
    return folder / name, Tokenizer.from_file(str(folder / "tokenizer.json"))
