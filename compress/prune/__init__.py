"""The prune step: channels, neurons and attention heads are really removed, exactly and by a plan that is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import nn

from compress.model_size import measure_size
from compress.prune.choose.asked import Asked
from compress.prune.facts import step_facts, step_warnings, widths
from compress.prune.importance import Importance
from compress.prune.plan import PrunePlan, apply
from compress.prune.rewrite import rewritable, rewrite
from compress.prune.rounds import Rounds
from compress.step import Arithmetic, StepContext, StepResult

PLAN_FILE = "plan.json"
MOST_ROUNDS = 20


@dataclass(frozen=True)
class Prune:
    """Remove the least important channels of all layers together, until exactly one of three figures is reached.

    Args:
        macs_ratio: multiply-accumulates of the model before this step over those after it, > 1.
        channels_removed: share of the removable channels, between 0 and 1.
        speedup: measured FP32 latency of the original over that of the pruned model on the target `on`, > 1.
        on: a target's name; by default the first of the recipe that runs here.
        precision: in which the pruned model is timed: int8 where INT8 is to ship, whose kernels reward other widths.
        importance: how channels are ranked, see compress.prune.importance and compress.prune.importance.rating.
        multiple_of: what is left of a layer's width is a multiple of it; attention heads go whole instead.
        max_removed: largest share of a layer's removable channels.
        exclude: glob patterns of module paths that keep their shape.
        repair: solve what reads the removed channels again by least squares, see compress.prune.repair.
        repair_samples: calibration samples that importance and repair look at.
        depth: whole residual blocks, transformer layers or branches of concatenations may go too, where that loses less;
            needs importance fisher or obs.
        rounds: in how many parts the figure is approached; importance and repair begin anew after each.
    """

    kind: ClassVar[str] = "prune"

    macs_ratio: float | None = None
    channels_removed: float | None = None
    speedup: float | None = None
    on: str | None = None
    precision: Arithmetic = "fp32"
    importance: Importance = "l2"
    multiple_of: int = 8
    max_removed: float = 0.75
    exclude: tuple[str, ...] = ()
    repair: bool = True
    repair_samples: int = 512
    depth: bool = False
    rounds: int = 1

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
        if self.precision != "fp32" and (self.speedup is None or self.rounds > 1):
            raise ValueError(
                "precision: int8 is what speedup is timed in, in one round; give speedup and leave rounds out, or leave "
                "precision out"
            )
        if self.multiple_of < 1:
            raise ValueError(f"multiple_of must be 1 or more, found {self.multiple_of}")
        if not 0 < self.max_removed < 1:
            raise ValueError(f"max_removed must lie between 0 and 1, found {self.max_removed:g}")
        if self.repair_samples < 2:
            raise ValueError(f"repair_samples must be 2 or more, found {self.repair_samples}")
        if not 1 <= self.rounds <= MOST_ROUNDS:
            raise ValueError(f"rounds must be from 1 to {MOST_ROUNDS}, found {self.rounds}")
        if self.depth and self.importance not in ("fisher", "obs"):
            raise ValueError(
                "depth: blocks are weighed by the rise of the loss or of what cannot be mended, and only importance: fisher and "
                f"obs weigh channels so too; found importance: {self.importance}"
            )

    @property
    def asked(self) -> Asked:
        """The one figure that was given."""
        name, value = next((name, value) for name, value in self._figures().items() if value is not None)
        return Asked(name, value, self.on, self.precision)

    def apply(self, model: nn.Module, context: StepContext) -> StepResult:
        """Prune `model` in place; keep the plan in the stage's folder.

        Raises:
            InputError: `exclude` names no module.
            UnsupportedError: the model cannot be traced, nothing can be removed, or not as much as asked.
        """
        model.eval()
        rewrite(model, rewritable(model))
        inputs = context.workload.example_inputs
        size_before, widths_before = measure_size(model, inputs), widths(model)
        done = Rounds(self, model, context).run()
        (context.folder / PLAN_FILE).write_text(done.plan.to_json())
        facts = step_facts(
            done.goal,
            done.found,
            done.plan,
            sizes=(size_before, measure_size(model, inputs)),
            layers=(widths_before, widths(model)),
            left_alone=done.left_alone,
        )
        crowded = context.speedup.crowded() if done.goal.name == "speedup" else None
        return StepResult(model, done.facts | facts, step_warnings(done.goal, done.found, crowded))

    def restore(self, model: nn.Module, folder: Path) -> nn.Module:
        """Cut `model` as the plan in `folder` says.

        Raises:
            InputError: the plan is unreadable or made for another model.
        """
        apply(model, PrunePlan.from_json((folder / PLAN_FILE).read_text()))
        return model

    def _figures(self) -> dict[str, float | None]:
        return {"macs_ratio": self.macs_ratio, "channels_removed": self.channels_removed, "speedup": self.speedup}
