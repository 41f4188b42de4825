"""The contract of a step in torch, and the table of steps a recipe can name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import nn

from compress.workload import Workload
from export.progress import Track, silent

STEPS: dict[str, str] = {
    "prune": "compress.prune:Prune",
    "distill": "compress.distill:Distill",
    "quantize": "compress.quantize:Quantize",
}
"""Recipe key -> the step's class. `quantize` comes last: it works on the exported model, once per target."""


Speedup = Callable[[nn.Module, str | None], float]
"""Measures how many times faster a model runs than the original, both in FP32: (model, target's name or None)."""


@dataclass(frozen=True)
class StepContext:
    """What a step may use besides the model.

    Args:
        workload: the user's; its validation batches are never None here.
        teacher: the original model, in eval mode; not to be changed.
        folder: the stage's folder, still under a temporary name; a step may keep files in it (plan.json).
        scratch: a folder that outlives an interruption and goes when the stage is whole (training checkpoints).
        seed: of the recipe.
        speedup: measures a model against the original; None for the target takes the first that runs here.
        track: shows progress.
    """

    workload: Workload
    teacher: nn.Module
    folder: Path
    scratch: Path
    seed: int
    speedup: Speedup
    track: Track = silent


@dataclass(frozen=True)
class StepResult:
    """The new model, and what the report tells of the step: plain JSON values, `warnings` as sentences."""

    model: nn.Module
    facts: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Step(Protocol):
    """A frozen dataclass; its fields are its YAML keys. `apply` may change `model` in place: the pipeline copies."""

    kind: ClassVar[str]

    def apply(self, model: nn.Module, context: StepContext) -> StepResult: ...

    def restore(self, model: nn.Module, folder: Path) -> nn.Module:
        """Give `model` the structure that `apply` left, from the files kept in `folder`; weights are loaded after."""
