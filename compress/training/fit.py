"""The middle of a training script: AdamW over what requires a gradient, progress in lines, and what it cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from benchmarks.metrics import Metric
from compress.evaluate import evaluate
from compress.training import Epoch, Schedule, Training, train
from compress.workload import Batches
from export.calling import call
from export.progress import Lines

REPORT_EVERY = 100
"""Steps between two lines of progress."""


@dataclass(frozen=True)
class Plan:
    """How a network is trained.

    Args:
        name: before each line that is printed.
        learning_rate: at its highest; it rises over `warmup_epochs` and falls to zero as a cosine.
        resume: file that keeps the state to go on from; it is there until the caller removes it.
        precision: bf16 where the CPU has instructions for it.
    """

    name: str
    epochs: int
    learning_rate: float
    resume: Path
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    warmup_epochs: float = 0.1
    weight_decay: float = 0.01


def fit(
    model: nn.Module,
    batches: Batches,
    validation: Batches,
    loss: Callable[[Tensor, Tensor], Tensor],
    metric: Metric,
    plan: Plan,
) -> list[Epoch]:
    """Train in place and keep the last epoch; the metric on `validation` is told after each one, and the cost at the end.

    Args:
        loss: outputs and target -> scalar, as a Workload's.

    Raises:
        QualityError: if the loss is NaN or Inf.
        InputError: if there are no batches.
    """
    cpu_s = time.process_time()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    training = Training(
        model=model,
        optimizer=torch.optim.AdamW(trained, lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True),
        schedule=Schedule(plan.learning_rate, plan.epochs, plan.warmup_epochs),
        gradient_clip=1.0,
        seed=plan.seed,
        checkpoint=plan.resume,
        description=plan.name,
        track=Lines(REPORT_EVERY),
        precision=plan.precision,
    )

    def validate() -> float:
        value = measured(model, validation, metric)
        print(f"{plan.name}: {metric.name} on validation data {value:.4f}", flush=True)
        return value

    epochs = train(training, batches, lambda inputs, target: loss(call(model, inputs)[0], target), validate)
    seconds, samples = sum(epoch.seconds for epoch in epochs), sum(epoch.samples for epoch in epochs)
    cpu_s = time.process_time() - cpu_s
    print(f"{plan.name}: {seconds:.0f} s, {samples / seconds:.0f} samples/s; CPU since the last start {cpu_s:.0f} s")
    return epochs


def measured(model: nn.Module, batches: Batches, metric: Metric) -> float:
    """The metric in torch."""
    return metric.value(evaluate(model, batches, metric))
