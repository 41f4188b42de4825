"""What a training keeps of itself, and how it goes on from it: weights, optimizer, random numbers, where it is."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from compress.read_tensors import read_torch
from export.files import write_whole

if TYPE_CHECKING:
    from compress.training import Training


@dataclass
class Progress:
    """Where a training is: `step` steps of `epoch` (both from 0) are done; sums are over these steps."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    samples: int = 0
    seconds: float = 0.0
    done: list[dict[str, Any]] = field(default_factory=list)


def save(training: Training, progress: Progress) -> None:
    write_whole(training.checkpoint, state(training, progress))


def state(training: Training, progress: Progress) -> bytes:
    content = io.BytesIO()
    state = {
        "model": training.model.state_dict(),
        "optimizer": training.optimizer.state_dict(),
        "progress": asdict(progress),
        "random": torch.get_rng_state(),
    }
    torch.save(state, content)
    return content.getvalue()


def resume(training: Training) -> Progress:
    """Put model, optimizer and random numbers where the interrupted training was; a new start without a checkpoint."""
    if not training.checkpoint.exists():
        return Progress()
    return load(training, read_torch(training.checkpoint))


def load(training: Training, state: Mapping[str, Any]) -> Progress:
    training.model.load_state_dict(state["model"])
    training.optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])
    return Progress(**state["progress"])
