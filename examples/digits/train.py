"""Train the digits demo's network and write its checkpoint: about two minutes on two cores.

    python examples/digits/train.py --out examples/digits/digits.safetensors

Nothing is chosen on the test digits: the weights of the last epoch are kept.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import torch
from digits_model import DigitsNet
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional
from workload import digit_splits

from compress.workload import TensorBatches


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    model = DigitsNet()
    train, validation, test = digit_splits(batch_size=64)

    begun_s = time.perf_counter()
    fit(model, train, options.epochs, options.learning_rate)
    print(f"trained {options.epochs} epochs in {time.perf_counter() - begun_s:.0f} s")
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
    parser = argparse.ArgumentParser(description="Train the digits demo's network.")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
