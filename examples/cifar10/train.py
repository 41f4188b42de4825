"""Train one of the example's networks on CIFAR-10 from nothing: at most 25 minutes on two cores of a CPU with BF16.

Without BF16 an epoch takes two to three times as long; the Inception then has as many as fit into that time.

    python examples/cifar10/train.py --network inception --data FOLDER --out inception-cifar10.safetensors

Stopped and started again with the same arguments, it goes on where it was. Nothing is chosen on the test images: the
weights after the last step are kept.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from cifar_images import read_images
from networks import NETWORKS
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from workload import test_images, training_splits

from benchmarks.metrics import Accuracy
from compress.evaluate import evaluate
from compress.training import Epoch, Schedule, Training, train
from compress.workload import Batches
from export.calling import call
from export.progress import Lines
from targets.isa import instruction_sets

REPORT_EVERY = 50
"""Steps between two lines of progress."""


@dataclass(frozen=True)
class Course:
    """How a network is trained unless the command says otherwise; the epochs are what 25 minutes are enough for.

    Args:
        precision: which trains faster where the CPU has both; torch computes depthwise convolutions faster in fp32.
        fp32_epochs: where it is bf16 and the CPU has none; None leaves the number as it is, whatever it takes.
    """

    epochs: int
    learning_rate: float
    optimizer: Literal["sgd", "adamw"] = "sgd"
    weight_decay: float = 5e-4
    batch_size: int = 128
    precision: Literal["fp32", "bf16"] = "bf16"
    fp32_epochs: int | None = None


COURSES = {
    "bottleneck": Course(epochs=13, learning_rate=0.1),
    "inception": Course(epochs=15, learning_rate=0.1, fp32_epochs=4),
    "mobilenet": Course(epochs=12, learning_rate=0.1, precision="fp32"),
    "vgg": Course(epochs=15, learning_rate=0.05),
    "vit": Course(epochs=11, learning_rate=0.001, optimizer="adamw", weight_decay=0.05),
}

WARMUP_EPOCHS = 1.0


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    course = chosen(options)
    batches, validation, _ = training_splits(*read_images(options.data, "train"), course.batch_size)
    model = NETWORKS[options.network]().to(memory_format=torch.channels_last)

    options.out.parent.mkdir(parents=True, exist_ok=True)
    resume = options.out.with_suffix(".resume")
    epochs = fit(model, batches, validation, course, options.seed, resume)
    seconds, samples = sum(epoch.seconds for epoch in epochs), sum(epoch.samples for epoch in epochs)
    print(f"trained in {seconds:.0f} s, {samples / seconds:.0f} images/s, {course.precision}")
    test = accuracy(model, test_images(options.data))
    print(f"validation {epochs[-1].validation:.4f}  test {test:.4f}")
    write_checkpoint(model, options.out, test)
    resume.unlink()
    print(f"wrote {options.out} ({options.out.stat().st_size / 1e6:.1f} MB)")


def chosen(options: argparse.Namespace) -> Course:
    """The network's own course, but for what the command says; in bf16 only where the CPU has it, or it is asked for."""
    own = COURSES[options.network]
    named = ("epochs", "learning_rate", "batch_size", "precision")
    given = {name: value for name in named if (value := getattr(options, name)) is not None}
    if own.precision == "bf16" and "bf16" not in instruction_sets():
        own = replace(own, precision="fp32", epochs=own.fp32_epochs or own.epochs)
    return replace(own, **given)


def fit(
    model: nn.Module, batches: Batches, validation: Batches, course: Course, seed: int, resume: Path
) -> list[Epoch]:
    """Train in place; `resume` keeps the state to go on from."""
    training = Training(
        model=model,
        optimizer=_optimizer(model, course),
        schedule=Schedule(course.learning_rate, course.epochs, warmup_epochs=min(WARMUP_EPOCHS, course.epochs / 2)),
        gradient_clip=5.0,
        seed=seed,
        checkpoint=resume,
        description="train",
        track=Lines(REPORT_EVERY),
        precision=course.precision,
    )

    def loss(inputs: dict[str, Tensor], target: Tensor) -> Tensor:
        return functional.cross_entropy(call(model, inputs)[0], target)

    def validate() -> float:
        value = accuracy(model, validation)
        print(f"validation {value:.4f}", flush=True)
        return value

    return train(training, batches, loss, validate)


def accuracy(model: nn.Module, batches: Batches) -> float:
    """Share of the images whose largest logit is the label."""
    return Accuracy().value(evaluate(model, batches, Accuracy()))


def write_checkpoint(model: nn.Module, path: Path, test_accuracy: float) -> None:
    """The weights, with the accuracy that the workload then states as its baseline."""
    kept = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(kept, path, metadata={"test_accuracy": f"{test_accuracy:.6f}"})


def _optimizer(model: nn.Module, course: Course) -> torch.optim.Optimizer:
    """Weight decay is for matrices and filters alone."""
    groups = [
        {"params": [each for each in model.parameters() if each.ndim > 1], "weight_decay": course.weight_decay},
        {"params": [each for each in model.parameters() if each.ndim <= 1], "weight_decay": 0.0},
    ]
    if course.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=course.learning_rate, fused=True)
    return torch.optim.SGD(groups, lr=course.learning_rate, momentum=0.9, nesterov=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a network on CIFAR-10. What is left out is the network's own.")
    parser.add_argument("--network", choices=NETWORKS, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder with the sheets of CIFAR-10")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=("fp32", "bf16"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
