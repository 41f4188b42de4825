"""Train a sentence classifier on SST-2: MiniLM-L6 (half an hour of CPU time) or a bidirectional LSTM (a few minutes).

    python examples/sst2/train.py --data FOLDER --out minilm-sst2.safetensors
    python examples/sst2/train.py --data FOLDER --out lstm-sst2.safetensors --network lstm

Stopped and started again with the same arguments, it goes on where it was. Nothing is chosen on the test sentences,
nor on the dev phrases: the weights after the last step are kept.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import lstm
import minilm
import torch
from safetensors.torch import save_file
from sentences import load_tokenizer, read_batches
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.metrics import Accuracy
from compress.evaluate import evaluate
from compress.padded import LengthBatches
from compress.training import Epoch, Schedule, Training, train
from compress.workload import Batches
from export.calling import call
from export.progress import Lines

REPORT_EVERY = 100
"""Steps between two lines of progress."""


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
    resume, cpu_s = options.out.with_suffix(".resume"), time.process_time()
    epochs = fine_tune(
        model,
        splits,
        options.epochs or network.epochs,
        options.learning_rate or network.learning_rate,
        options.seed,
        resume,
        precision=options.precision,
    )
    _report_cost(epochs, time.process_time() - cpu_s)
    test = accuracy(model, splits["test"])
    print(f"dev {epochs[-1].validation:.4f}  test {test:.4f}")
    write_checkpoint(model, options.out, test)
    resume.unlink()
    print(f"wrote {options.out} ({options.out.stat().st_size / 1e6:.1f} MB)")


def fine_tune(
    model: nn.Module,
    splits: dict[str, LengthBatches],
    epochs: int,
    learning_rate: float,
    seed: int,
    resume: Path,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> list[Epoch]:
    """Train in place what requires a gradient; `resume` keeps the state to go on from."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    training = Training(
        model=model,
        optimizer=torch.optim.AdamW(trained, lr=learning_rate, weight_decay=0.01, fused=True),
        schedule=Schedule(learning_rate, epochs, warmup_epochs=0.1),
        gradient_clip=1.0,
        seed=seed,
        checkpoint=resume,
        description="train",
        track=Lines(REPORT_EVERY),
        precision=precision,
    )

    def loss(inputs: dict[str, Tensor], target: Tensor) -> Tensor:
        return functional.cross_entropy(call(model, inputs)[0], target)

    return train(training, splits["train"], loss, validate=lambda: accuracy(model, splits["dev"]))


def accuracy(model: nn.Module, batches: Batches) -> float:
    """Share of the sentences whose larger logit is the label."""
    return Accuracy().value(evaluate(model, batches, Accuracy()))


def write_checkpoint(model: nn.Module, path: Path, test_accuracy: float) -> None:
    """The weights, with the accuracy that the workload then states as its baseline."""
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, path, metadata={"test_accuracy": f"{test_accuracy:.6f}"})


def _report_cost(epochs: list[Epoch], cpu_s: float) -> None:
    seconds, samples = sum(epoch.seconds for epoch in epochs), sum(epoch.samples for epoch in epochs)
    print(f"trained in {seconds:.0f} s, {samples / seconds:.0f} samples/s; CPU since the last start {cpu_s:.0f} s")


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
