"""The workload of a small GPT-2 that writes on in the manner of a text."""

from __future__ import annotations

from pathlib import Path

import torch
from gpt import gpt, loss
from play_text import END, PADDING, WINDOW, encode, load_tokenizer, read_parts, windows
from safetensors import safe_open

from benchmarks.metrics import Perplexity
from benchmarks.preprocessing import TextPreprocessing
from compress.checkpoint import load_weights
from compress.generation import Generation, Writing
from compress.generation.transformers_parts import causal_parts
from compress.ready.plain_text import ShiftedWindows
from compress.workload import Workload
from export.errors import InputError

CALIBRATION = 512


def shakespeare(*, data: str, weights: str, new_tokens: int = 64, batch_size: int = 16) -> Workload:
    """The workload of examples/shakespeare; relative paths start from the current directory.

    Args:
        data: the text that train.py was given.
        weights: checkpoint written by train.py; its tokenizer.json lies beside it.
        new_tokens: of the answers that are timed.
        batch_size: of training.
    """
    path = Path(weights)
    if not path.is_file():
        raise InputError(
            f"examples/shakespeare: {path} is missing; make it with: python examples/shakespeare/train.py "
            f"--data FILE --out {path}; then name it with --set arguments.weights=FILE"
        )
    spelled = path.with_name("tokenizer.json")
    tokenizer = load_tokenizer(spelled)
    padding, end = (tokenizer.token_to_id(token) for token in (PADDING, END))
    model = gpt(tokenizer.get_vocab_size(), padding, end)
    load_weights(model, path)
    with safe_open(path, framework="pt") as file:
        stated = (file.metadata() or {}).get("test_perplexity")
    parts = read_parts(Path(data))
    train = encode(tokenizer, parts.train)
    validation, evaluation = (
        windows(encode(tokenizer, part), batch_size=16) for part in (parts.validation, parts.evaluation)
    )
    every = windows(train, batch_size=8)
    drawn = torch.linspace(0, every.samples - 1, min(CALIBRATION, every.samples)).long()
    return Workload(
        model=model.eval(),
        example_inputs={"input_ids": validation.inputs["input_ids"][:2, :64].contiguous()},
        dynamic_axes={"input_ids": {0: "batch", 1: "length"}},
        train=ShiftedWindows(train, WINDOW, batch_size),
        validation=validation,
        evaluation=evaluation,
        calibration=every.take(drawn),
        loss=loss,
        metric=Perplexity(),
        baseline=None if stated is None else float(stated),
        baseline_tolerance=0.01,
        preprocessing=TextPreprocessing(str(spelled), mask=None, longest=WINDOW),
        writing=Writing(causal_parts, Generation(end=end, padding=padding, new_tokens=new_tokens)),
    )
