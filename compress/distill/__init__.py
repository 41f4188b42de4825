"""Distillation: the student learns to answer as the original does, beside the task's own loss."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from compress.distill.answers import answers, check_teachable
from compress.distill.features import Place, attention_places, block_places, check_maps, every_block
from compress.distill.lesson import AnswerLoss, HintPlaces, Hints, Lesson, Weights
from compress.distill.losses import kd_loss
from compress.distill.teacher import Teacher
from compress.evaluate import evaluate
from compress.samples import first_pass
from compress.step import StepContext, StepResult
from compress.training import Epoch, Schedule, Training, assist, processes, train
from compress.training.mixup import check_mixable
from compress.training.processes import Processes
from compress.workload import Workload
from export.calling import call
from export.errors import InputError, UnsupportedError
from export.trace import evaluating
from targets.isa import instruction_sets

__all__ = ["Distill", "answers", "check_teachable", "kd_loss", "take_part"]

PLACES = {"stages": block_places, "blocks": every_block}


@dataclass(frozen=True)
class Distill:
    """Train the student on the workload's training batches with the original as teacher.

    The loss is `teacher_weight * distillation loss + (1 - teacher_weight) * task loss + hint_weight * hints`; the
    learning rate rises over `warmup_epochs` and falls to zero as a cosine; the last epoch is kept. Interrupted training
    resumes where it was.
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
    loss: AnswerLoss = "kd"
    """kd compares all classes at once (arXiv:1503.02531); dkd the right class and the rest apart (arXiv:2203.08679)."""
    dkd_alpha: float = 1.0
    """Weight of how sure the teacher is of the right class, with dkd."""
    dkd_beta: float = 2.0
    """Weight of how the teacher shares out the rest, with dkd."""
    hints: Hints = "none"
    """What is compared inside: features of blocks, attention maps of convolutions, relations between tokens."""
    hint_weight: float = 1.0
    """Weight of the hints in the loss."""
    hint_places: HintPlaces = "stages"
    """The last block of each stage, or all the blocks that a pruned student shares with its teacher."""
    mixup: float = 0.0
    """Largest share of another sample that each sample gets, 0 to 0.5; the teacher alone answers for the mixture."""
    accumulate: int = 1
    """Batches whose mean gradient makes one step."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto computes in bfloat16 where the machine does so natively, else in float32."""
    cache_teacher: bool = False
    """Keep the teacher's logits in the run's folder, by the content of each batch."""
    control: bool = False
    """Train the same student for the same budget without the teacher too: the report tells what distillation gave."""

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
        for name in ("dkd_alpha", "dkd_beta", "hint_weight"):
            _require(getattr(self, name) >= 0, f"{name} must be 0 or more, found {getattr(self, name)}")
        _require(0 <= self.mixup <= 0.5, f"mixup must be from 0 to 0.5, found {self.mixup}")
        _require(
            self.mixup == 0 or (self.teacher_weight == 1 and self.loss == "kd"),
            "mixup: a mixture of two samples has no label, the teacher alone answers for it; set teacher_weight: 1 and "
            f"loss: kd, found {self.teacher_weight:g} and {self.loss}",
        )
        _require(
            self.hint_places == "stages" or self.hints in ("features", "attention"),
            f"hint_places: blocks says where hints: features or attention compare, found hints: {self.hints}",
        )
        _require(self.accumulate >= 1, f"accumulate must be 1 or more, found {self.accumulate}")
        _require(
            not self.cache_teacher or self.hints == "none",
            f"cache_teacher keeps logits only, and hints: {self.hints} needs the teacher's inside; "
            "leave one of the two out",
        )
        _require(
            not self.control or self.taught,
            "control: true compares with training without the teacher, and teacher_weight 0 is that; leave control out",
        )

    @property
    def taught(self) -> bool:
        """Whether the teacher has a part in the loss."""
        return self.teacher_weight > 0 or self.hints != "none"

    def apply(self, model: nn.Module, context: StepContext) -> StepResult:
        """Train `model` in place, from the checkpoint in `context.scratch` if an earlier run was interrupted.

        Raises:
            QualityError: if the loss becomes NaN or Inf.
            UnsupportedError: if the model's first output is not logits for each sample or token, or there is nothing to hint at.
            InputError: if there are no training batches or nothing to train.
        """
        workload, start = context.workload, copy.deepcopy(model) if self.control else None
        if self.taught:
            _check_outputs(model, context.teacher, workload)
        if self.mixup:
            check_mixable(next(iter(first_pass(workload.train)))[0])
        before = _validation(model, workload)
        epochs = self._train(model, context, "distill")
        facts = {
            "validation_metric": workload.metric.name,
            "validation_before": before,
            **_facts(epochs),
            **self._fact_settings(),
        }
        if start is not None:
            facts |= self._control(start, context, facts["validation"])
        return StepResult(model.eval(), facts)

    def restore(self, model: nn.Module, folder: Path) -> nn.Module:
        """The model itself: distillation changes weights only."""
        return model

    def without_teacher(self) -> Distill:
        """The same training on the task's own loss."""
        return replace(
            self, teacher_weight=0.0, hints="none", hint_places="stages", cache_teacher=False, control=False, mixup=0.0
        )

    def lesson(self, student: nn.Module, teacher: nn.Module, workload: Workload, seed: int, **how: Any) -> Lesson:
        """What is trained and its loss; `how` is passed on to Teacher. Projections are drawn from the seed."""
        weights = Weights(
            teacher=self.teacher_weight,
            temperature=self.temperature,
            hint=self.hint_weight,
            answers=self.loss,
            alpha=self.dkd_alpha,
            beta=self.dkd_beta,
            hints=self.hints,
        )
        if not self.taught:
            return Lesson(student, None, workload.loss, weights)
        places: tuple[Place, ...] = ()
        if self.hints != "none":
            find = attention_places if self.hints == "relation" else PLACES[self.hint_places]
            places = find(student, teacher, workload.example_inputs)
        if self.hints == "attention":
            check_maps(places)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            wanted = [place.projection() if self.hints == "features" else nn.Identity() for place in places]
        taught = Teacher(teacher, workload.example_inputs, paths=[place.teacher for place in places], **how)
        return Lesson(student, taught, workload.loss, weights, places, nn.ModuleList(wanted))

    def training(self, lesson: Lesson, together: Processes, seed: int, **fields: Any) -> Training:
        """How it is trained, on each of the processes; `fields` are Training's."""
        return Training(
            model=lesson.trained,
            optimizer=self._optimizer(lesson.trained),
            schedule=Schedule(self.learning_rate, self.epochs, self.warmup_epochs),
            gradient_clip=self.gradient_clip,
            seed=seed,
            accumulate=self.accumulate,
            precision=_precision(self.precision, together.device),
            processes=together,
            mixup=self.mixup,
            **fields,
        )

    def _train(self, model: nn.Module, context: StepContext, name: str) -> list[Epoch]:
        workload, together = context.workload, processes.current()
        kept = context.kept / "teacher" if self.cache_teacher and context.kept is not None else None
        lesson = self.lesson(
            model,
            context.teacher,
            workload,
            context.seed,
            device=together.device,
            onnx=context.teacher_onnx,
            cache=kept,
        )
        training = self.training(
            lesson,
            together,
            context.seed,
            checkpoint=context.scratch / ("training.pt" if name == "distill" else f"{name}.pt"),
            description=name,
            track=context.track,
        )
        if together.count > 1:
            _announce(Task(asdict(self), model, context.seed), together)
        return train(training, workload.train, lesson.loss, lambda: _validation(model, workload))

    def _control(self, start: nn.Module, context: StepContext, distilled: float) -> dict[str, Any]:
        """What the same training gives without the teacher, and the share of the rest of the gap that distillation closed."""
        epochs = self.without_teacher()._train(start, context, "control")
        teacher, control = _validation(context.teacher, context.workload), epochs[-1].validation
        gap = teacher - control
        return {
            "control": {"validation": control, "seconds": _facts(epochs)["seconds"]},
            "teacher_validation": teacher,
            "gain_over_control": distilled - control,
            "gap_recovered": (distilled - control) / gap if abs(gap) > 1e-9 else None,
        }

    def _fact_settings(self) -> dict[str, Any]:
        together = processes.current()
        return {
            "precision": _precision(self.precision, together.device),
            **({"processes": together.count} if together.count > 1 else {}),
        }

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


@dataclass(frozen=True)
class Task:
    """What the first process tells the others before a training: the step's fields, the student to start from, the seed.

    (The step itself is of the class that checked the recipe, which pickle does not find.)
    """

    fields: dict[str, Any]
    student: nn.Module
    seed: int


def _announce(task: Task, together: Processes) -> None:
    """Two messages: that there is work, upon which the others load the workload, whose classes the second one needs."""
    together.tell("training")
    try:
        content = pickle.dumps(task)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UnsupportedError(
            f"distill: the student cannot be sent to the other processes: {error}; "
            "define its classes and functions at the top of a module, or run without a launcher"
        ) from error
    together.tell(content)


def take_part(task: Task, workload: Workload, together: Processes) -> None:
    """The part of another process in the first one's training; what it learns here is not needed after."""
    step = Distill(**task.fields)
    lesson = step.lesson(task.student, workload.model, workload, task.seed, device=together.device)
    training = step.training(lesson, together, task.seed, checkpoint=Path(), description=step.kind)
    assist(training, lesson.loss)


def _validation(model: nn.Module, workload: Workload) -> float:
    assert workload.validation is not None, "the pipeline gives every workload a validation set"
    return workload.metric.value(evaluate(model, workload.validation, workload.metric))


def _precision(wanted: str, device: torch.device) -> Literal["fp32", "bf16"]:
    """auto is bf16 where there are instructions for it: on others, bfloat16 is computed in float32 and rounded."""
    native = torch.cuda.is_bf16_supported() if device.type == "cuda" else "bf16" in instruction_sets()
    return "bf16" if wanted == "bf16" or (wanted == "auto" and native) else "fp32"


def _check_outputs(student: nn.Module, teacher: nn.Module, workload: Workload) -> None:
    with evaluating(student):
        shape, taught = (tuple(call(module, workload.example_inputs)[0].shape) for module in (student, teacher))
    if shape != taught:
        raise UnsupportedError(
            f"distill: the student's first output has shape {shape}, the teacher's {taught}; they must agree"
        )
    check_teachable(student, workload, "distill: the first output")


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
