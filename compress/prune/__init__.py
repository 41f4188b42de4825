"""The prune step: channels, neurons and attention heads are really removed, exactly and by a plan that is kept."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar

from torch import nn

from compress.model_size import ModelSize, measure_size
from compress.prune import importance as measures
from compress.prune.exactness import other_inputs
from compress.prune.facts import listed_reasons, step_facts, step_warnings, widths
from compress.prune.follow import follow
from compress.prune.importance import Importance, Measure
from compress.prune.plan import PrunePlan, apply
from compress.prune.search import Goal, find_plan, rank
from compress.step import StepContext, StepResult
from export.errors import UnsupportedError

PLAN_FILE = "plan.json"
TAYLOR_BATCHES = 8


@dataclass(frozen=True)
class Prune:
    """Remove the least important channels of all layers together, until exactly one of three figures is reached.

    Args:
        macs_ratio: multiply-accumulates of the original over those of the pruned model, > 1.
        channels_removed: share of the removable channels, between 0 and 1.
        speedup: measured FP32 latency of the original over that of the pruned model on the target `on`, > 1.
        on: a target's name; by default the first of the recipe that runs here.
        importance: how channels are ranked, see compress.prune.importance. Right after halving the MACs of
            ResNet-56, 1,000 images: l2 keeps 34 % accuracy, l1 23, taylor 19, bn_scale 16, random 10.
        multiple_of: what is left of a layer's width is a multiple of it; attention heads go whole instead.
        max_removed: largest share of a layer's removable channels.
        exclude: glob patterns of module paths that keep their shape.
    """

    kind: ClassVar[str] = "prune"

    macs_ratio: float | None = None
    channels_removed: float | None = None
    speedup: float | None = None
    on: str | None = None
    importance: Importance = "l2"
    multiple_of: int = 8
    max_removed: float = 0.75
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        asked = {name: value for name, value in self._figures().items() if value is not None}
        if len(asked) != 1:
            found = " and ".join(asked) or "none of them"
            raise ValueError(f"give exactly one of {', '.join(self._figures())}; found {found}")
        for name, value in asked.items():
            if name == "channels_removed" and not 0 < value < 1:
                raise ValueError(f"channels_removed must lie between 0 and 1, found {value:g}")
            if name != "channels_removed" and not value > 1:
                raise ValueError(f"{name} must be greater than 1 (2 asks for half the cost), found {value:g}")
        if self.on is not None and self.speedup is None:
            raise ValueError(f"on: '{self.on}' is where speedup is measured; give speedup too, or leave `on` out")
        if self.multiple_of < 1:
            raise ValueError(f"multiple_of must be 1 or more, found {self.multiple_of}")
        if not 0 < self.max_removed < 1:
            raise ValueError(f"max_removed must lie between 0 and 1, found {self.max_removed:g}")

    def apply(self, model: nn.Module, context: StepContext) -> StepResult:
        """Prune `model` in place; keep the plan in the stage's folder.

        Raises:
            InputError: `exclude` names no module.
            UnsupportedError: the model cannot be traced, nothing can be removed, or not as much as asked.
        """
        model.eval()
        inputs = context.workload.example_inputs
        size_before, widths_before = measure_size(model, inputs), widths(model)
        following = follow(model, inputs, self.exclude)
        families, fixed = rank(model, following, self._measures(model, context), self.max_removed, self.multiple_of)
        if not families:
            reasons = listed_reasons((*fixed, *following.left_alone))
            raise UnsupportedError(f"prune: no channel of {type(model).__name__} can be removed. {reasons}")
        batches = (inputs, other_inputs(inputs, context.seed))
        goal = self._goal(context, size_before)
        found = find_plan(model, families, goal, batches)
        (context.folder / PLAN_FILE).write_text(found.plan.to_json())
        apply(model, found.plan)
        facts = step_facts(
            goal,
            found,
            sizes=(size_before, measure_size(model, inputs)),
            layers=(widths_before, widths(model)),
            left_alone=(*found.left_alone, *fixed, *following.left_alone),
        )
        return StepResult(model, facts, step_warnings(goal, found))

    def restore(self, model: nn.Module, folder: Path) -> nn.Module:
        """Cut `model` as the plan in `folder` says.

        Raises:
            InputError: the plan is unreadable or made for another model.
        """
        apply(model, PrunePlan.from_json((folder / PLAN_FILE).read_text()))
        return model

    def _figures(self) -> dict[str, float | None]:
        return {"macs_ratio": self.macs_ratio, "channels_removed": self.channels_removed, "speedup": self.speedup}

    def _goal(self, context: StepContext, before: ModelSize) -> Goal:
        inputs = context.workload.example_inputs
        if self.macs_ratio is not None:
            return Goal("macs_ratio", self.macs_ratio, lambda model, _: before.macs / measure_size(model, inputs).macs)
        if self.channels_removed is not None:
            return Goal("channels_removed", self.channels_removed, lambda _, share: share)
        assert self.speedup is not None
        return Goal("speedup", self.speedup, lambda model, _: context.speedup(model, self.on))

    def _measures(self, model: nn.Module, context: StepContext) -> list[Measure]:
        """The chosen measure, and l1 for layers that it knows nothing of (bn_scale where there is no batch norm)."""
        workload = context.workload
        if self.importance == "taylor":
            source = workload.train if workload.calibration is None else workload.calibration
            chosen = measures.taylor(model, islice(source, TAYLOR_BATCHES), workload.loss)
        elif self.importance == "random":
            chosen = measures.random(model, context.seed)
        else:
            chosen = {"l1": measures.l1, "l2": measures.l2, "bn_scale": measures.bn_scale}[self.importance](model)
        return [chosen, measures.l1(model)]
