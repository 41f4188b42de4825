"""Train one of the digits demo's networks and write its checkpoint: the ResNet takes about two minutes on two cores, the others seconds.

    python examples/digits/train.py --network resnet --out examples/digits/digits.safetensors

Nothing is chosen on the test digits: the weights of the last epoch are kept.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from digits_model import NETWORKS
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional
from workload import digit_splits

from compress.workload import TensorBatches


@dataclass(frozen=True)
class Course:
    """How a network is trained unless the command says otherwise.

    Args:
        learning_rate: at its highest; without batch norms a network stands less.
    """

    epochs: int
    learning_rate: float


COURSES = {"resnet": Course(40, 0.1), "cnn": Course(80, 0.03), "mlp": Course(200, 0.1)}


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    model = NETWORKS[options.network]()
    train, validation, test = digit_splits(batch_size=64)

    begun_s = time.perf_counter()
    course = COURSES[options.network]
    epochs, learning_rate = options.epochs or course.epochs, options.learning_rate or course.learning_rate
    fit(model, train, epochs, learning_rate)
    print(f"trained {epochs} epochs in {time.perf_counter() - begun_s:.0f} s")
    print(f"validation {accuracy(model, validation):.4f}  test {accuracy(model, test):.4f}")
    save_file(model.state_dict(), options.out)
    print(f"wrote {options.out} ({options.out.stat().st_size / 1e6:.2f} MB)")


def fit(model: nn.Module, train: TensorBatches, epochs: int, learning_rate: float) -> None:
    """Train in place with Nesterov momentum and a one-cycle learning rate; leaves the model in eval mode."""
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=epochs * len(train))
    model.train()
    for epoch in range(1, epochs + 1):
        losses = []
        for inputs, target in train:
            loss = functional.cross_entropy(model(**inputs), target)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch}/{epochs}  loss {sum(losses) / len(losses):.4f}", flush=True)
    model.eval()


@torch.inference_mode()
def accuracy(model: nn.Module, batches: TensorBatches) -> float:
    """Share of the images whose largest logit is the label."""
    hits = sum(int((model(**inputs).argmax(dim=1) == target).sum()) for inputs, target in batches)
    return hits / batches.samples


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Train a network on the digits. What is left out is the network's own."
    )
    parser.add_argument("--network", choices=NETWORKS, default="resnet")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
