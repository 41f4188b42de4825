"""Train the small MobileNetV2 on CIFAR-10 from nothing.

    python examples/cifar10/train_mobilenet.py --data FOLDER --out mobilenet-cifar10.safetensors

Stopped and started again with the same arguments, it goes on where it was. Nothing is chosen on the test images: the
weights after the last step are kept.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch
from cifar_images import read_images
from cifar_mobilenet import CifarMobileNet
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from workload import test_images, training_splits

from benchmarks.metrics import Accuracy
from compress.evaluate import evaluate
from compress.training import Schedule, Training, train
from export.calling import call
from export.progress import Lines

REPORT_EVERY = 50
"""Steps between two lines of progress."""


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    batches, validation, _ = training_splits(*read_images(options.data, "train"), options.batch_size)
    model = CifarMobileNet().to(memory_format=torch.channels_last)
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    optimizer = torch.optim.SGD(
        [{"params": weights, "weight_decay": 5e-4}, {"params": others, "weight_decay": 0.0}],
        lr=options.learning_rate,
        momentum=0.9,
        nesterov=True,
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    resume = options.out.with_suffix(".resume")
    training = Training(
        model=model,
        optimizer=optimizer,
        schedule=Schedule(options.learning_rate, options.epochs, warmup_epochs=1.0),
        gradient_clip=5.0,
        seed=options.seed,
        checkpoint=resume,
        description="train",
        track=Lines(REPORT_EVERY),
    )

    def loss(inputs: dict[str, Tensor], target: Tensor) -> Tensor:
        return functional.cross_entropy(call(model, inputs)[0], target)

    def validate() -> float:
        value = Accuracy().value(evaluate(model, validation, Accuracy()))
        print(f"validation {value:.4f}", flush=True)
        return value

    epochs = train(training, batches, loss, validate)
    seconds, samples = sum(epoch.seconds for epoch in epochs), sum(epoch.samples for epoch in epochs)
    print(f"trained in {seconds:.0f} s, {samples / seconds:.0f} images/s")
    test = Accuracy().value(evaluate(model, test_images(options.data), Accuracy()))
    print(f"validation {epochs[-1].validation:.4f}  test {test:.4f}")
    kept = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(kept, options.out, metadata={"test_accuracy": f"{test:.6f}"})
    resume.unlink()
    print(f"wrote {options.out} ({options.out.stat().st_size / 1e6:.1f} MB)")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a small MobileNetV2 on CIFAR-10.")
    parser.add_argument("--data", type=Path, required=True, help="folder with the sheets of CIFAR-10")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
