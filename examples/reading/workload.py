"""The workload of a reader: rows of handwritten digits, judged by the characters that it writes."""

from __future__ import annotations

from pathlib import Path

import torch
from reader import loss, reader
from rows import END, HEIGHT, LONGEST, PADDING, ROWS, START, WIDTH, WORDS, forced, rows, spelled
from safetensors import safe_open

from benchmarks.metrics import ErrorRate, Perplexity
from benchmarks.preprocessing import ImagePreprocessing
from compress.checkpoint import load_weights
from compress.generation import Generation, Writing
from compress.generation.transformers_parts import seq2seq_parts
from compress.workload import TensorBatches, Workload
from export.errors import InputError

CALIBRATION = 200
WRITES = Generation(end=END, padding=PADDING, start=START, new_tokens=LONGEST + 1)


def digits_in_rows(*, weights: str, batch_size: int = 64) -> Workload:
    """The workload of examples/reading.

    Args:
        weights: checkpoint written by train.py; a relative path starts from the current directory.
        batch_size: of training.
    """
    path = Path(weights)
    if not path.is_file():
        raise InputError(
            f"examples/reading: {path} is missing; make it with: python examples/reading/train.py --out {path}; then name it with "
            "--set arguments.weights=FILE"
        )
    with safe_open(path, framework="pt") as file:
        stated = file.metadata() or {}
    model = reader()
    load_weights(model, path)
    train = forced(*rows("train"), batch_size, shuffle=True)
    return Workload(
        model=model.eval(),
        example_inputs={name: tensor[:2] for name, tensor in train.inputs.items()},
        dynamic_axes={"pixel_values": {0: "batch"}, "decoder_input_ids": {0: "batch", 1: "answer"}},
        train=train,
        validation=forced(*rows("validation"), 100),
        evaluation=forced(*rows("test"), 100),
        calibration=train.take(torch.arange(CALIBRATION), shuffle=False, batch_size=10),
        loss=loss,
        metric=Perplexity(),
        class_names=WORDS,
        baseline=float(stated["test_cer"]) if "test_cer" in stated else None,
        baseline_tolerance=0.002,
        preprocessing=ImagePreprocessing("pixel_values", size=(HEIGHT, WIDTH), channels="L"),
        licence="the digits are UCI's, CC BY 4.0",
        writing=Writing(
            seq2seq_parts, WRITES, character_errors(), validation=prompts("validation"), evaluation=prompts("test")
        ),
    )


def character_errors() -> ErrorRate:
    """Of the validation and the test rows, numbered one after the other."""
    texts = [spelled(tokens) for split in ("validation", "test") for tokens in rows(split)[1].tolist()]
    return ErrorRate(tuple(texts), spelled, "characters")


def prompts(split: str) -> TensorBatches:
    """The pictures of a split, and the numbers of their texts."""
    pictures, _ = rows(split)
    first = ROWS["validation"] if split == "test" else 0
    return TensorBatches({"pixel_values": pictures}, torch.arange(len(pictures)) + first, batch_size=50)
