"""Train a reader of rows of digits from nothing: ten minutes of CPU time.

    python examples/reading/train.py --out reader.safetensors

Stopped and started again with the same arguments, it goes on where it was. Nothing is chosen on the test rows: the weights
after the last step are kept.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch
from reader import loss, reader
from rows import forced, rows
from workload import WRITES, character_errors, prompts

from benchmarks.metrics import TokenAccuracy
from compress.checkpoint import save_weights
from compress.generation import Writing
from compress.generation.in_torch import evaluate_written
from compress.generation.transformers_parts import seq2seq_parts
from compress.training.fit import Plan, fit


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    plan = Plan(
        "reader",
        options.epochs,
        options.learning_rate,
        options.out.with_suffix(".resume"),
        options.seed,
        warmup_epochs=1.0,
    )
    model = reader()
    train, validation = forced(*rows("train"), 64, shuffle=True), forced(*rows("validation"), 100)
    fit(model, train, validation, loss, TokenAccuracy(), plan)
    metric = character_errors()
    writing = Writing(seq2seq_parts, WRITES)
    errors = metric.value(evaluate_written(model.eval(), writing, prompts("test"), metric))
    save_weights(model, options.out, {"test_cer": errors})
    plan.resume.unlink()
    print(f"wrote {options.out}: {100 * errors:.2f} % character errors on the test rows")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a reader of rows of digits.")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
