"""Distillation: the student learns to answer as the original does, beside the task's own loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.evaluate import evaluate
from compress.step import StepContext, StepResult
from compress.training import Epoch, Schedule, Training, train
from compress.workload import Workload
from export.calling import call
from export.errors import InputError, UnsupportedError
from export.trace import evaluating


def kd_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Temperature-scaled KL divergence from teacher to student.

    Args:
        student, teacher: logits, shape (batch, classes).
        temperature: > 0, dimensionless; larger is softer.

    Returns:
        Scalar: batch mean times temperature squared, so that gradients keep their size.

    Raises:
        ValueError: if the two shapes differ.

    Source: Hinton et al. 2015, arXiv:1503.02531, section 2.
    """
    if student.shape != teacher.shape:
        raise ValueError(f"student logits have shape {tuple(student.shape)}, teacher logits {tuple(teacher.shape)}")
    log_student = functional.log_softmax(student / temperature, dim=1)
    log_teacher = functional.log_softmax(teacher / temperature, dim=1)
    divergence = functional.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    return divergence * temperature**2


@dataclass(frozen=True)
class Distill:
    """Train the student on the workload's training batches with the original as teacher.

    The loss is `teacher_weight * kd_loss + (1 - teacher_weight) * task loss`; the learning rate rises over
    `warmup_epochs` and falls to zero as a cosine; the last epoch is kept. Interrupted training resumes where it was.
    """

    kind: ClassVar[str] = "distill"

    epochs: int = 10
    """Passes over the training batches."""
    learning_rate: float = 0.01
    """At its highest, after the warmup."""
    temperature: float = 4.0
    """Of the softened answers, dimensionless; 1 compares the plain probabilities."""
    teacher_weight: float = 0.9
    """Share of the teacher in the loss, 0 to 1; 0 is fine-tuning on the task's own loss."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """sgd suits convolutional networks, adamw transformers."""
    momentum: float = 0.9
    """Of sgd (Nesterov); adamw has its own."""
    weight_decay: float = 5e-4
    """On weight matrices and filters; biases and normalisation are left out."""
    gradient_clip: float | None = 5.0
    """Largest norm of all gradients together; null does not clip."""
    warmup_epochs: float = 0.0
    """Epochs over which the learning rate rises from zero."""

    def __post_init__(self) -> None:
        clip = self.gradient_clip
        _require(self.epochs >= 1, f"epochs must be 1 or more, found {self.epochs}")
        _require(
            0 < self.learning_rate <= 10, f"learning_rate must be above 0 and at most 10, found {self.learning_rate}"
        )
        _require(0 < self.temperature <= 100, f"temperature must be above 0 and at most 100, found {self.temperature}")
        _require(0 <= self.teacher_weight <= 1, f"teacher_weight must be from 0 to 1, found {self.teacher_weight}")
        _require(self.optimizer in ("sgd", "adamw"), f"optimizer must be 'sgd' or 'adamw', found {self.optimizer!r}")
        _require(0 <= self.momentum < 1, f"momentum must be at least 0 and below 1, found {self.momentum}")
        _require(0 <= self.weight_decay <= 1, f"weight_decay must be from 0 to 1, found {self.weight_decay}")
        _require(clip is None or clip > 0, f"gradient_clip must be above 0 or null, found {clip}")
        _require(
            0 <= self.warmup_epochs < self.epochs,
            f"warmup_epochs must be at least 0 and below epochs ({self.epochs}), found {self.warmup_epochs}",
        )

    def apply(self, model: nn.Module, context: StepContext) -> StepResult:
        """Train `model` in place, from the checkpoint in `context.scratch` if an earlier run was interrupted.

        Raises:
            QualityError: if the loss becomes NaN or Inf.
            UnsupportedError: if the model's first output is not a row of logits for each sample.
            InputError: if there are no training batches or nothing to train.
        """
        workload, teacher = context.workload, context.teacher
        if self.teacher_weight > 0:
            _check_outputs(model, teacher, workload)

        def loss(inputs: dict[str, Tensor], target: Tensor) -> Tensor:
            return self._loss(call(model, inputs)[0], inputs, target, teacher, workload)

        def validate() -> float:
            assert workload.validation is not None, "the pipeline gives every workload a validation set"
            return workload.metric.value(evaluate(model, workload.validation, workload.metric))

        before = validate()
        training = Training(
            model=model,
            optimizer=self._optimizer(model),
            schedule=Schedule(self.learning_rate, self.epochs, self.warmup_epochs),
            gradient_clip=self.gradient_clip,
            seed=context.seed,
            checkpoint=context.scratch / "training.pt",
            description=self.kind,
            track=context.track,
        )
        epochs = train(training, workload.train, loss, validate)
        facts = {"validation_metric": workload.metric.name, "validation_before": before, **_facts(epochs)}
        return StepResult(model.eval(), facts)

    def restore(self, model: nn.Module, folder: Path) -> nn.Module:
        """The model itself: distillation changes weights only."""
        return model

    def _loss(
        self, outputs: Tensor, inputs: dict[str, Tensor], target: Tensor, teacher: nn.Module, workload: Workload
    ) -> Tensor:
        """The student's `outputs` against the target and against the teacher's answer to the same `inputs`."""
        task = workload.loss(outputs, target)
        if self.teacher_weight == 0:
            return task
        with torch.no_grad():
            taught = call(teacher, inputs)[0]
        kd = kd_loss(as_logits(outputs), as_logits(taught), self.temperature)
        return self.teacher_weight * kd + (1 - self.teacher_weight) * task

    def _optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not trained:
            raise InputError("distill: no parameter of the model requires a gradient; unfreeze what is to be trained")
        groups = [
            {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
        ]
        if self.optimizer == "adamw":
            return torch.optim.AdamW(groups, lr=self.learning_rate)
        return torch.optim.SGD(groups, lr=self.learning_rate, momentum=self.momentum, nesterov=self.momentum > 0)


def as_logits(outputs: Tensor) -> Tensor:
    """Logits of shape (batch, classes); a single logit z a sample becomes the two classes (0, z), whose softmax is
    (1 - sigmoid(z), sigmoid(z))."""
    if outputs.ndim == 2 and outputs.shape[1] > 1:
        return outputs
    logit = outputs.reshape(-1)
    return torch.stack([torch.zeros_like(logit), logit], dim=1)


def _check_outputs(student: nn.Module, teacher: nn.Module, workload: Workload) -> None:
    with evaluating(student):
        shape, taught = (tuple(call(module, workload.example_inputs)[0].shape) for module in (student, teacher))
    if shape != taught:
        raise UnsupportedError(
            f"distill: the student's first output has shape {shape}, the teacher's {taught}; they must agree"
        )
    single = shape[1:] in ((), (1,))
    if len(shape) > 2 or (single and not workload.metric.classifies):
        raise UnsupportedError(
            f"distill: the first output has shape {shape}; a teacher needs logits of shape (batch, classes), or one logit "
            "a sample under a metric that classifies. Set teacher_weight to 0 to train on the task's loss alone"
        )


def _facts(epochs: Sequence[Epoch]) -> dict[str, Any]:
    seconds, samples = sum(epoch.seconds for epoch in epochs), sum(epoch.samples for epoch in epochs)
    shown = ("epoch", "loss", "validation", "learning_rate")
    return {
        "validation": epochs[-1].validation,
        "epochs": [{key: getattr(epoch, key) for key in shown} for epoch in epochs],
        "seconds": round(seconds, 3),
        "samples_per_s": round(samples / seconds, 1) if seconds else None,
    }


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
