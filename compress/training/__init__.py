"""A training loop that can be interrupted: the same weights come out as if it had never stopped."""

from __future__ import annotations

import io
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from compress.training import checkpoint
from compress.training.channels_last import channels_last, has_filters, images_last
from compress.training.checkpoint import Progress
from compress.training.float_attention import FloatAttention
from compress.training.mixup import mixed
from compress.training.processes import ALONE, Processes
from compress.training.reuse_memory import memory_reused
from compress.training.shared_batch_norm import shared_batch_norms
from compress.workload import Batch, Batches, TensorBatches
from export.errors import InputError, QualityError
from export.progress import Track, silent

CHECKPOINT_S = 60.0
"""Seconds of work that an interruption may cost."""

Loss = Callable[[dict[str, Tensor], Tensor], Tensor]
"""Inputs and target of a batch, through the model, to a scalar: a mean over the samples."""


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
    """What a training needs besides the data and the loss.

    Args:
        model: all that is trained; it is trained in place.
        checkpoint: the file that it resumes from.
        accumulate: batches whose mean gradient makes one step.
        precision: bf16 computes matrix products and convolutions in bfloat16; weights stay in float32.
        processes: those that train together, each on its share of every batch.
        mixup: largest share of another sample in each one; see compress.training.mixup.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    gradient_clip: float | None
    seed: int
    checkpoint: Path
    description: str
    track: Track = silent
    accumulate: int = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    processes: Processes = ALONE
    mixup: float = 0.0


@dataclass(frozen=True)
class Epoch:
    """What the report tells of an epoch: mean loss of its samples, learning rate at its last step, time of its steps."""

    epoch: int
    loss: float
    validation: float
    learning_rate: float
    samples: int
    seconds: float


@dataclass(frozen=True)
class _Work:
    """One step, as the first process hands it out: the batches, the learning rate, a seed for the others' dropout."""

    batches: Sequence[Batch]
    learning_rate: float
    seed: int


def train(training: Training, batches: Batches, loss: Loss, validate: Callable[[], float]) -> list[Epoch]:
    """Train in place and keep the last epoch; every epoch and every minute is kept in `training.checkpoint`.

    A pass is drawn from the seed and its number, so a resumed pass has the batches of the interrupted one: those
    already learnt are drawn again and skipped. Only the first process calls this; the others `assist`.

    Args:
        validate: the metric on the validation set, called after each epoch.

    Raises:
        QualityError: if the loss is NaN or Inf; names epoch and step.
        InputError: if there are no batches.
    """
    try:
        steps = -(-_count(batches) // training.accumulate)
        with torch.random.fork_rng(), _ready(training):
            progress = checkpoint.resume(training)
            training.processes.tell(checkpoint.state(training, progress) if training.processes.count > 1 else None)
            while progress.epoch < training.schedule.epochs:
                _train_epoch(training, batches, steps, loss, progress)
                _finish_epoch(training, progress, validate())
                checkpoint.save(training, progress)
    finally:
        training.processes.tell(None)
    return [Epoch(**epoch) for epoch in progress.done]


def assist(training: Training, loss: Loss) -> None:
    """Take part in the first process's `train`, until it is done: the same model is trained here, in place."""
    processes = training.processes
    with torch.random.fork_rng(), _ready(training):
        state = processes.tell()
        if state is None:
            return
        checkpoint.load(training, torch.load(io.BytesIO(state), map_location="cpu", weights_only=True))
        training.model.train()
        while (work := processes.tell()) is not None:
            torch.manual_seed(work.seed + processes.rank)
            _learn(training, loss, work)


def _train_epoch(training: Training, batches: Batches, steps: int, loss: Loss, progress: Progress) -> None:
    """The steps of the epoch that are not done yet."""
    training.model.train()
    saved_s = time.monotonic()
    title = f"{training.description}: epoch {progress.epoch + 1} of {training.schedule.epochs}"
    groups = _groups(_remaining(training, batches, progress), training.accumulate)
    for group in training.track(groups, title, steps - progress.step):
        started = time.monotonic()
        done = progress.epoch + (progress.step + 0.5) / steps
        work = _Work(
            group, training.schedule.at(done), training.seed + 7_919 * (progress.epoch * steps + progress.step)
        )
        value = _learn(training, loss, training.processes.tell(work))
        _refuse_not_finite(value, training, progress, steps)
        samples = sum(len(target) for _, target in group)
        progress.loss_sum += value * samples
        progress.samples += samples
        progress.step += 1
        progress.seconds += time.monotonic() - started
        if time.monotonic() - saved_s > CHECKPOINT_S:
            checkpoint.save(training, progress)
            saved_s = time.monotonic()


def _learn(training: Training, loss: Loss, work: _Work) -> float:
    """One step of the optimizer, the same on every process; the mean loss of its samples. None is made if that is NaN."""
    for group in training.optimizer.param_groups:
        group["lr"] = work.learning_rate
    training.optimizer.zero_grad()
    value = _sum_over_processes(training, _backward(training, loss, work.batches))
    if math.isfinite(value):
        if training.gradient_clip is not None:
            nn.utils.clip_grad_norm_(training.model.parameters(), training.gradient_clip)
        training.optimizer.step()
    return value


def _backward(training: Training, loss: Loss, batches: Sequence[Batch]) -> float:
    """Leave this process's part of the mean loss's gradient in the parameters; its part of the mean loss."""
    samples, mean = sum(len(target) for _, target in batches), 0.0
    reads_images = has_filters(training.model)
    for batch in batches:
        (inputs, target), share = training.processes.share(batch)
        weight = share * len(batch[1]) / samples
        with _arithmetic(training):
            value = loss(images_last(inputs) if reads_images else inputs, target) * weight
        value.backward()  # type: ignore[no-untyped-call]
        mean += value.item()
    return mean


@contextmanager
def _arithmetic(training: Training) -> Iterator[None]:
    """The training's precision, where a forward pass takes place."""
    kind, bf16 = training.processes.device.type, training.precision == "bf16"
    with ExitStack() as both:
        both.enter_context(torch.autocast(kind, torch.bfloat16, enabled=bf16))
        if bf16 and kind == "cpu":
            both.enter_context(FloatAttention())
        yield


def _sum_over_processes(training: Training, loss: float) -> float:
    """Add up the gradients of all processes, and their losses beside them: one message a step."""
    if training.processes.count == 1:
        return loss
    gradients = [parameter.grad for parameter in training.model.parameters() if parameter.grad is not None]
    flat = torch.cat([*(gradient.flatten() for gradient in gradients), gradients[0].new_tensor([loss])])
    *summed, total = torch.split(training.processes.sum(flat), [*(gradient.numel() for gradient in gradients), 1])
    for gradient, whole in zip(gradients, summed, strict=True):
        gradient.copy_(whole.view_as(gradient))
    return float(total)


@contextmanager
def _ready(training: Training) -> Iterator[None]:
    """The model where and how it trains fastest; afterwards on the CPU."""
    model, processes = training.model, training.processes
    model.to(processes.device)
    try:
        with memory_reused(), shared_batch_norms(model, processes), channels_last(model):
            yield
    finally:
        model.to("cpu")


def _groups(batches: Iterator[Batch], size: int) -> Iterator[list[Batch]]:
    while group := list(islice(batches, size)):
        yield group


def _finish_epoch(training: Training, progress: Progress, validation: float) -> None:
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


def _remaining(training: Training, batches: Batches, progress: Progress) -> Iterator[Batch]:
    """The batches of this pass after those already learnt, with the random numbers of an uninterrupted training."""
    resumed_at = torch.get_rng_state()
    _seed(training.seed + 1_000_003 * (progress.epoch + 1))
    whole = iter(batches.at_pass(progress.epoch) if isinstance(batches, TensorBatches) else batches)
    for _ in islice(whole, progress.step * training.accumulate):
        pass
    if progress.step:
        torch.set_rng_state(resumed_at)
    for batch in whole:
        yield mixed(batch, training.mixup)


def _seed(seed: int) -> None:
    """For dropout, for samplers that draw from torch, and for augmentations that draw from Python or numpy."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def _refuse_not_finite(loss: float, training: Training, progress: Progress, steps: int) -> None:
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
