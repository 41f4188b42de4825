"""Train a sentence classifier on SST-2: MiniLM-L6 (half an hour of CPU time) or a bidirectional LSTM (a few minutes).

    python examples/sst2/train.py --data FOLDER --out minilm-sst2.safetensors
    python examples/sst2/train.py --data FOLDER --out lstm-sst2.safetensors --network lstm

Stopped and started again with the same arguments, it goes on where it was. Nothing is chosen on the test sentences,
nor on the dev phrases: the weights after the last step are kept.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lstm
import minilm
import torch
from sentences import load_tokenizer, read_batches
from torch import nn
from torch.nn import functional

from benchmarks.metrics import Accuracy
from compress.checkpoint import save_weights
from compress.training.fit import Plan, fit, measured


@dataclass(frozen=True)
class Network:
    """How a network is made, with what is learned already, and how it is trained unless the command line says otherwise."""

    make: Callable[[], nn.Module]
    epochs: int
    learning_rate: float


NETWORKS = {
    "minilm": Network(minilm.pretrained, epochs=2, learning_rate=1e-4),
    "lstm": Network(lstm.with_word_vectors, epochs=3, learning_rate=2e-3),
}


def main() -> None:
    options = _options()
    network = NETWORKS[options.network]
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tokenizer = load_tokenizer(minilm.package_folder() / "tokenizer.json")
    splits = {
        name: read_batches(options.data, name, tokenizer, options.batch_size, shuffle=name == "train")
        for name in ("train", "dev", "test")
    }
    model = network.make()

    options.out.parent.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        options.network,
        options.epochs or network.epochs,
        options.learning_rate or network.learning_rate,
        options.out.with_suffix(".resume"),
        options.seed,
        options.precision,
    )
    fit(model, splits["train"], splits["dev"], functional.cross_entropy, Accuracy(), plan)
    test = measured(model, splits["test"], Accuracy())
    save_weights(model, options.out, {"test_accuracy": test})  # the baseline of the workload
    plan.resume.unlink()
    print(f"wrote {options.out} ({options.out.stat().st_size / 1e6:.1f} MB): {test:.4f} of test right")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a sentence classifier on SST-2.")
    parser.add_argument("--data", type=Path, required=True, help="folder with train.tsv, dev.tsv and test.tsv")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--network", choices=tuple(NETWORKS), default="minilm")
    parser.add_argument("--epochs", type=int, help="2 for minilm, 3 for lstm")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, help="at its highest; 1e-4 for minilm, 2e-3 for lstm")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="bf16 where the CPU has it")
    return parser.parse_args()


if __name__ == "__main__":
    main()
