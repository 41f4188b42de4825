"""A lesson: what is trained, and the loss of a batch, from the student's answer, the teacher's and the target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from compress.distill.answers import answers, right_classes
from compress.distill.features import Place, listening, mask_of
from compress.distill.losses import (
    attention_loss,
    dkd_loss,
    feature_loss,
    kd_loss,
    relation_loss,
)
from compress.distill.teacher import Answer, Teacher
from export.calling import call

AnswerLoss = Literal["kd", "dkd"]
Hints = Literal["none", "features", "attention", "relation"]
HintPlaces = Literal["stages", "blocks"]


@dataclass(frozen=True)
class Weights:
    """How much each part of the loss counts; see the fields of Distill."""

    teacher: float
    temperature: float
    hint: float = 0.0
    answers: AnswerLoss = "kd"
    alpha: float = 1.0
    beta: float = 2.0
    hints: Hints = "none"


@dataclass(frozen=True)
class Lesson:
    """A student beside its teacher.

    Args:
        places: where their insides are compared; none without hints.
        task_loss: outputs and target -> scalar, the workload's.
    """

    student: nn.Module
    teacher: Teacher | None
    task_loss: Callable[[Tensor, Tensor], Tensor]
    weights: Weights
    places: Sequence[Place] = ()
    projections: nn.ModuleList = field(default_factory=nn.ModuleList)

    @property
    def trained(self) -> nn.Module:
        """The student, and beside it the projections where there are any; they are thrown away after."""
        if not any(True for _ in self.projections.parameters()):
            return self.student
        return nn.ModuleDict({"student": self.student, "projections": self.projections})

    def loss(self, inputs: dict[str, Tensor], target: Tensor) -> Tensor:
        """Of a batch: the share of the teacher, the rest from the task, and the hints on top."""
        with listening(self.student, [place.student for place in self.places]) as heard:
            outputs = call(self.student, inputs)[0].float()
        task = self.task_loss(outputs, target)
        if self.teacher is None:
            return task
        answer = self.teacher(inputs)
        with torch.autocast(outputs.device.type, enabled=False):
            loss = self.weights.teacher * self._answers(outputs, answer, target) + (1 - self.weights.teacher) * task
            if self.places:
                loss = loss + self.weights.hint * self._hint(heard, answer, inputs)
        return loss

    def _answers(self, outputs: Tensor, answer: Answer, target: Tensor) -> Tensor:
        weights, student, teacher = self.weights, answers(outputs, target), answers(answer.logits.float(), target)
        if weights.answers == "kd":
            return kd_loss(student, teacher, weights.temperature)
        right = right_classes(outputs, target)
        return dkd_loss(student, teacher, right, weights.temperature, weights.alpha, weights.beta)

    def _hint(self, heard: Mapping[str, Tensor], answer: Answer, inputs: Mapping[str, Tensor]) -> Tensor:
        """The mean over all places."""
        compare = {"features": feature_loss, "attention": attention_loss, "relation": None}[self.weights.hints]
        losses = []
        for place, projection in zip(self.places, self.projections, strict=True):
            mine, taught = heard[place.student].float(), answer.features[place.teacher].float()
            if compare is None:
                compared = partial(relation_loss, heads=place.heads, mask=mask_of(inputs, mine))
                losses.append(compared(mine, taught))
            else:
                losses.append(compare(projection(mine), taught))
        return torch.stack(losses).mean()
