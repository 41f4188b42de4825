"""A training loop that can be interrupted: the same weights come out as if it had never stopped."""

from __future__ import annotations

import io
import math
import random
import time
from collections.abc import Callable, Iterator, Sized
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compress.read_tensors import read_torch
from compress.workload import Batch, Batches, TensorBatches
from export.errors import InputError, QualityError
from export.files import write_whole
from export.progress import Track, silent

CHECKPOINT_S = 60.0
"""Seconds of work that an interruption may cost."""


@dataclass(frozen=True)
class Schedule:
    """Linear warmup, then a cosine down to zero, step by step.

    Source: Loshchilov & Hutter 2017, arXiv:1608.03983, equation 5 without restarts.
    """

    peak: float
    epochs: int
    warmup_epochs: float = 0.0

    def at(self, epoch: float) -> float:
        """The learning rate when `epoch` epochs, whole and part, are done."""
        if epoch < self.warmup_epochs:
            return self.peak * epoch / self.warmup_epochs
        done = (epoch - self.warmup_epochs) / (self.epochs - self.warmup_epochs)
        return self.peak * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Training:
    """What a training needs besides the data and the loss. `checkpoint` is the file it resumes from."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    gradient_clip: float | None
    seed: int
    checkpoint: Path
    description: str
    track: Track = silent


@dataclass(frozen=True)
class Epoch:
    """What the report tells of an epoch: mean loss of its samples, learning rate at its last step, time of its steps."""

    epoch: int
    loss: float
    validation: float
    learning_rate: float
    samples: int
    seconds: float


@dataclass
class _Progress:
    """Where a training is: `step` steps of `epoch` (both from 0) are done; sums are over these steps."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    samples: int = 0
    seconds: float = 0.0
    done: list[dict[str, Any]] = field(default_factory=list)


def train(
    training: Training,
    batches: Batches,
    loss: Callable[[dict[str, Tensor], Tensor], Tensor],
    validate: Callable[[], float],
) -> list[Epoch]:
    """Train in place and keep the last epoch; every epoch and every minute is kept in `training.checkpoint`.

    A pass is drawn from the seed and its number, so a resumed pass has the batches of the interrupted one: those
    already learnt are drawn again and skipped.

    Args:
        loss: inputs and target of a batch -> scalar, through the model.
        validate: the metric on the validation set, called after each epoch.

    Raises:
        QualityError: if the loss is NaN or Inf; names epoch and step.
        InputError: if there are no batches.
    """
    steps = _count(batches)
    with torch.random.fork_rng():
        progress = _resume(training)
        while progress.epoch < training.schedule.epochs:
            _train_epoch(training, batches, steps, loss, progress)
            _finish_epoch(training, progress, validate())
            _save(training, progress)
    return [Epoch(**epoch) for epoch in progress.done]


def _train_epoch(
    training: Training,
    batches: Batches,
    steps: int,
    loss: Callable[[dict[str, Tensor], Tensor], Tensor],
    progress: _Progress,
) -> None:
    """The steps of the epoch that are not done yet."""
    training.model.train()
    saved_s = time.monotonic()
    title = f"{training.description}: epoch {progress.epoch + 1} of {training.schedule.epochs}"
    for inputs, target in training.track(_remaining(training, batches, progress), title, steps - progress.step):
        started = time.monotonic()
        _set_learning_rate(training, progress, steps)
        value = loss(inputs, target)
        _refuse_not_finite(value.item(), training, progress, steps)
        _step(training, value)
        progress.loss_sum += value.item() * len(target)
        progress.samples += len(target)
        progress.step += 1
        progress.seconds += time.monotonic() - started
        if time.monotonic() - saved_s > CHECKPOINT_S:
            _save(training, progress)
            saved_s = time.monotonic()


def _step(training: Training, loss: Tensor) -> None:
    training.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    if training.gradient_clip is not None:
        nn.utils.clip_grad_norm_(training.model.parameters(), training.gradient_clip)
    training.optimizer.step()


def _finish_epoch(training: Training, progress: _Progress, validation: float) -> None:
    epoch = Epoch(
        epoch=progress.epoch + 1,
        loss=progress.loss_sum / progress.samples,
        validation=validation,
        learning_rate=training.optimizer.param_groups[0]["lr"],
        samples=progress.samples,
        seconds=progress.seconds,
    )
    progress.done.append(asdict(epoch))
    progress.epoch += 1
    progress.step, progress.samples, progress.loss_sum, progress.seconds = 0, 0, 0.0, 0.0


def _remaining(training: Training, batches: Batches, progress: _Progress) -> Iterator[Batch]:
    """The batches of this pass after those already learnt, with the random numbers of an uninterrupted training."""
    resumed_at = torch.get_rng_state()
    _seed(training.seed + 1_000_003 * (progress.epoch + 1))
    whole = iter(batches.at_pass(progress.epoch) if isinstance(batches, TensorBatches) else batches)
    for _ in islice(whole, progress.step):
        pass
    if progress.step:
        torch.set_rng_state(resumed_at)
    yield from whole


def _seed(seed: int) -> None:
    """For dropout, for samplers that draw from torch, and for augmentations that draw from Python or numpy."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def _set_learning_rate(training: Training, progress: _Progress, steps: int) -> None:
    middle_of_step = progress.epoch + (progress.step + 0.5) / steps
    for group in training.optimizer.param_groups:
        group["lr"] = training.schedule.at(middle_of_step)


def _refuse_not_finite(loss: float, training: Training, progress: _Progress, steps: int) -> None:
    if not math.isfinite(loss):
        raise QualityError(
            f"{training.description}: the loss is {loss} at epoch {progress.epoch + 1}, step {progress.step + 1} of {steps}; "
            f"lower learning_rate (its peak is {training.schedule.peak:g}), add warmup_epochs, set gradient_clip, "
            "or look for NaN in the training data"
        )


def _count(batches: Batches) -> int:
    """Batches of a pass: the schedule needs it, so batches without a length are counted once."""
    count = len(batches) if isinstance(batches, Sized) else sum(1 for _ in batches)
    if count == 0:
        raise InputError("train: there are no batches to learn from; give at least one")
    return count


def _save(training: Training, progress: _Progress) -> None:
    content = io.BytesIO()
    state = {
        "model": training.model.state_dict(),
        "optimizer": training.optimizer.state_dict(),
        "progress": asdict(progress),
        "random": torch.get_rng_state(),
    }
    torch.save(state, content)
    write_whole(training.checkpoint, content.getvalue())


def _resume(training: Training) -> _Progress:
    """Put model, optimizer and random numbers where the interrupted training was; a new start without a checkpoint."""
    if not training.checkpoint.exists():
        return _Progress()
    state = read_torch(training.checkpoint)
    training.model.load_state_dict(state["model"])
    training.optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])
    return _Progress(**state["progress"])
