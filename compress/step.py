"""The contract of a step in torch, and the table of steps a recipe can name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from torch import Tensor, nn

from compress.workload import Workload
from export.progress import Track, silent
from targets import FP32, Profile, Scheme, Target
from targets.registry import Registry

STEPS: dict[str, str] = {
    "vocabulary": "compress.vocabulary:Vocabulary",
    "prune": "compress.prune:Prune",
    "distill": "compress.distill:Distill",
    "quantize": "compress.quantize:Quantize",
}
"""Recipe key -> the step's class. `quantize` comes last: it works on the exported model, once per target."""


Arithmetic = Literal["fp32", "int8"]
"""In which a model is timed."""


@dataclass(frozen=True)
class TimedCall:
    """A model, or a part of one that writes, as it is called.

    Args:
        module: the model, or a module made of its modules.
        inputs: what it was timed on: named tensors at the recipe's first batch size.
        profile: where the time of one call goes.
        times: how often the call is made: once, or in a whole answer.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    profile: Profile
    times: int = 1


@dataclass(frozen=True)
class Timed:
    """A model as a runtime runs it.

    Args:
        calls: the one call, or those that make an answer.
        scheme: in which it was timed.
    """

    target: Target
    threads: int
    calls: tuple[TimedCall, ...]
    scheme: Scheme = FP32


class Speedup(Protocol):
    """Times models on a target of the recipe, by name; None takes the first that runs here."""

    def measure(self, model: nn.Module, on: str | None, arithmetic: Arithmetic) -> float:
        """How many times faster `model` runs than the original in FP32."""

    def time(self, model: nn.Module, on: str | None, arithmetic: Arithmetic) -> Timed:
        """What the runtime's profiler tells of `model`."""

    def crowded(self) -> str | None:
        """What to say of other programs that ran beside the measurements so far; None where hardly any did."""


@dataclass(frozen=True)
class StepContext:
    """What a step may use besides the model.

    Args:
        workload: the user's; its validation batches are never None here.
        teacher: the original model, in eval mode; not to be changed.
        folder: the stage's folder, still under a temporary name; a step may keep files in it (plan.json).
        scratch: a folder that outlives an interruption and goes when the stage is whole (training checkpoints).
        kept: a folder that outlives the run, for what a later run asks again; None keeps nothing.
        teacher_onnx: gives the original as ONNX, proven to answer as in torch; it may have to be exported first.
            None, or gives None, where there is none.
        seed: of the recipe.
        speedup: times models on the recipe's targets.
        track: shows progress.
    """

    workload: Workload
    teacher: nn.Module
    folder: Path
    scratch: Path
    seed: int
    speedup: Speedup
    track: Track = silent
    kept: Path | None = None
    teacher_onnx: Callable[[], Path | None] | None = None


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


REGISTRY = Registry("step", STEPS, Step, "kind")
"""The steps of this toolkit and of other distributions."""
