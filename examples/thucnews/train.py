"""Train a character BERT on Chinese headlines from nothing: first on masked tokens, then on classes.

    python examples/thucnews/train.py --data FOLDER --out thucnews

Writes tokenizer.json, masked.safetensors and headlines.safetensors into the folder `--out`. Stopped and started again with
the same arguments, it goes on where it was. Nothing is chosen on the test headlines: the weights after the last step are kept.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from bert import HeadlineClassifier, MaskedLanguageModel, cross_entropy, encoder
from headlines import (
    TEST_SEED,
    VALIDATION_SEED,
    Headlines,
    MaskedBatches,
    label_batches,
    masked_once,
    read_headlines,
)
from tokenizers import Tokenizer

from benchmarks.metrics import Accuracy, TokenAccuracy
from compress.characters import character_tokenizer
from compress.checkpoint import load_weights, save_weights
from compress.training.fit import Plan, fit, measured


@dataclass(frozen=True)
class Job:
    """What both trainings share."""

    told: Headlines
    tokenizer: Tokenizer
    folder: Path
    batch_size: int = 64
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"

    def plan(self, name: str, epochs: int, learning_rate: float) -> Plan:
        resume, warmup = self.folder / f"{name}.resume", min(0.5, epochs / 4)
        return Plan(name, epochs, learning_rate, resume, self.seed, self.precision, warmup)


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    told = read_headlines(options.data)
    tokenizer = character_tokenizer(told.train.headlines)
    tokenizer.save(str(options.out / "tokenizer.json"))
    job = Job(told, tokenizer, options.out, options.batch_size, options.seed, options.precision)
    masked = pretrain(job, options.pretraining_epochs)
    classify(job, masked, options.epochs)


def pretrain(job: Job, epochs: int, learning_rate: float = 1e-3) -> MaskedLanguageModel:
    """Learn from the training headlines' text which token was masked; read back if that was done before."""
    words, batch_size = job.tokenizer.get_vocab_size(), job.batch_size
    model, path = MaskedLanguageModel(encoder(words)), job.folder / "masked.safetensors"
    if path.is_file():
        load_weights(model, path)
        print(f"{path} is there; delete it to train it anew")
        return model
    batches = MaskedBatches(label_batches(job.tokenizer, job.told.train, batch_size, shuffle=True), words)
    validation = masked_once(job.tokenizer, job.told.validation, batch_size, VALIDATION_SEED)
    plan = job.plan("masked", epochs, learning_rate)
    fit(model, batches, validation, cross_entropy, TokenAccuracy(), plan)
    test = measured(model, masked_once(job.tokenizer, job.told.test, batch_size, TEST_SEED), TokenAccuracy())
    save_weights(model, path, {"test_token_accuracy": test})
    plan.resume.unlink()
    print(f"wrote {path}: {test:.4f} of the masked tokens of test come out right")
    return model


def classify(job: Job, masked: MaskedLanguageModel, epochs: int, learning_rate: float = 3e-4) -> HeadlineClassifier:
    """Learn the classes, from the encoder of the masked language model on."""
    train, validation, test = (
        label_batches(job.tokenizer, split, job.batch_size, shuffle=split is job.told.train)
        for split in (job.told.train, job.told.validation, job.told.test)
    )
    model, path = HeadlineClassifier(masked.bert, len(job.told.classes)), job.folder / "headlines.safetensors"
    plan = job.plan("headlines", epochs, learning_rate)
    fit(model, train, validation, cross_entropy, Accuracy(), plan)
    right = measured(model, test, Accuracy())
    save_weights(model, path, {"test_accuracy": right})
    plan.resume.unlink()
    print(f"wrote {path}: {right:.4f} of test right")
    return model


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a character BERT on Chinese headlines.")
    parser.add_argument("--data", type=Path, required=True, help="folder with class.txt, dev.txt and test.txt")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--pretraining-epochs", type=int, default=20, help="on masked tokens")
    parser.add_argument("--epochs", type=int, default=6, help="on classes")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="bf16 where the CPU has it")
    return parser.parse_args()


if __name__ == "__main__":
    main()
