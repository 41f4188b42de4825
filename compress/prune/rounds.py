"""The cut itself, in one or several rounds: importance is taken, channels and blocks go, what is left is repaired."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from compress.evaluate import evaluate
from compress.model_size import measure_size
from compress.prune.blocks import Block, blocks_of, inside
from compress.prune.branches import branches_of
from compress.prune.calibration import InputsOf, calibration_of, validation_of
from compress.prune.channels import Group, LeftAlone, together
from compress.prune.choose.asked import channels_goal, macs_goal, speedup_goal
from compress.prune.choose.goal import Goal
from compress.prune.choose.latency import LatencyModel
from compress.prune.choose.latency_table import LatencyTable
from compress.prune.choose.search import Found, find_plan, rank
from compress.prune.choose.select import Family, RatedBlock, channels_of
from compress.prune.compose import compose
from compress.prune.exactness import other_inputs
from compress.prune.facts import listed_reasons
from compress.prune.follow import follow
from compress.prune.importance.rating import (
    Scorer,
    blocks_by_channels,
    branches_by_channels,
    rate_blocks,
    scorer,
)
from compress.prune.plan import PrunePlan, apply
from compress.prune.repair import repair
from compress.step import StepContext
from export.errors import UnsupportedError

if TYPE_CHECKING:
    from compress.prune import Prune

REPAIR_BATCHES = 8
"""Repair sees at least so many batches where there are as many samples: some judge what the others gave."""


@dataclass(frozen=True)
class Cutting:
    """What the rounds came to.

    Args:
        goal, found: of the last round; the difference is the largest of all rounds.
        plan: of all rounds, in the indices of the model that the step began with.
        facts: the metric on validation samples and what was repaired, round by round.
    """

    goal: Goal
    found: Found
    plan: PrunePlan
    left_alone: tuple[LeftAlone, ...]
    facts: dict[str, Any]


class Rounds:
    """Cuts `model` in place.

    Args:
        model: in eval mode, rewritten.
    """

    def __init__(self, step: Prune, model: nn.Module, context: StepContext) -> None:
        self._step, self._model, self._context = step, model, context
        self._inputs = context.workload.example_inputs
        self._samples = calibration_of(context.workload, step.repair_samples)
        self._before = copy.deepcopy(model)
        self._macs = measure_size(model, self._inputs).macs
        self._widths: dict[object, int] = {}
        self._removable = 0.0
        self._gone = 0.0

    def run(self) -> Cutting:
        """All rounds.

        Raises:
            InputError: `exclude` names no module.
            UnsupportedError: the model cannot be traced, nothing can be removed, or not as much as asked.
        """
        plan: PrunePlan | None = None
        metric = self._metric()
        told: list[dict[str, Any]] = []
        worst = 0.0
        for number in range(1, self._step.rounds + 1):
            goal, found, left_alone = self._choose(number)
            plan = found.plan if plan is None else compose(plan, found.plan)
            apply(self._model, found.plan)
            cut = {"round": number, goal.name: found.reached.measured, "after_the_cut": self._metric()}
            told.append(cut | self._repair(plan))
            worst = max(worst, found.difference)
        assert plan is not None
        last = {key: value for key, value in told[-1].items() if key.startswith("after")}
        facts: dict[str, Any] = {"validation": {"before": metric, **last}}
        if len(told) > 1:
            facts["rounds"] = told
        return Cutting(goal, replace(found, difference=worst), plan, left_alone, facts)

    def _choose(self, number: int) -> tuple[Goal, Found, tuple[LeftAlone, ...]]:
        step, context = self._step, self._context
        following = follow(self._model, self._inputs, step.exclude)
        scores = scorer(step.importance, self._model, following.groups, self._samples, context.workload, context.seed)
        batches = (self._inputs, other_inputs(self._inputs, context.seed))
        blocks = self._blocks(together(following.groups), scores, batches)
        go_whole = {axes for block in blocks for axes in block.empties}
        families, fixed = rank(self._model, following, scores, self._may_go, step.multiple_of, go_whole)
        if not families and not blocks:
            reasons = listed_reasons((*fixed, *following.left_alone))
            raise UnsupportedError(f"prune: no channel of {type(self._before).__name__} can be removed. {reasons}")
        goal = self._goal(number, families)
        found = find_plan(self._model, families, blocks, goal, batches)
        self._gone = self._removable * found.reached.measured if goal.name == "channels_removed" else 0.0
        return goal, found, (*found.left_alone, *fixed, *following.left_alone)

    def _goal(self, number: int, families: Sequence[Family]) -> Goal:
        step, context = self._step, self._context
        asked = step.asked.part(number, step.rounds)
        if asked.name == "macs_ratio":
            return macs_goal(asked, self._model, self._macs, self._inputs)
        if asked.name == "channels_removed":
            now = sum(channels_of(family.groups[0]) * len(family.groups) for family in families)
            self._removable = self._removable or float(now)
            return channels_goal(asked, self._removable, self._gone)
        timed = context.speedup.time(self._model, asked.on, asked.arithmetic)
        table = LatencyTable(timed.target, timed.threads, context.track, timed.scheme)
        latency = LatencyModel(self._model, timed.calls, table)
        so_far = 1.0
        is_original = number == 1 and self._macs == measure_size(context.teacher, self._inputs).macs
        if not is_original or asked.arithmetic != "fp32":
            so_far = context.speedup.measure(self._model, asked.on, asked.arithmetic)
        return speedup_goal(asked, latency, context.speedup, so_far, is_last=number == step.rounds)

    def _blocks(
        self, families: Sequence[Sequence[Group]], scores: Scorer, batches: Sequence[Mapping[str, Tensor]]
    ) -> list[RatedBlock]:
        if not self._step.depth:
            return []
        blocks = [block for block in blocks_of(self._model, self._inputs) if not self._is_excluded(block)]
        found = branches_of(self._model, self._inputs, families, batches)
        branches = [branch for branch in found if not self._is_excluded(branch.block)]
        if self._step.importance == "obs":
            return [*blocks_by_channels(blocks, families, scores), *branches_by_channels(branches, scores)]
        return rate_blocks(self._model, blocks, branches, self._samples, self._context.workload)

    def _is_excluded(self, block: Block) -> bool:
        paths = [
            path
            for path, _ in self._model.named_modules()
            if block.holds(path) or any(inside(each, path) for each in block.paths)
        ]
        return any(fnmatchcase(path, pattern) for path in paths for pattern in self._step.exclude)

    def _may_go(self, groups: Sequence[Group]) -> float:
        """Share of a family that may go in this round: `max_removed` counts from the width before the first."""
        before = self._widths.setdefault(groups[0].family, len(groups))
        most = int(self._step.max_removed * before + 1e-9)
        return max(0, most - (before - len(groups))) / len(groups)

    def _metric(self) -> float:
        workload = self._context.workload
        return workload.metric.value(evaluate(self._model, validation_of(workload), workload.metric))

    def _repair(self, plan: PrunePlan) -> dict[str, Any]:
        if not self._step.repair:
            return {}
        inputs = InputsOf(self._samples, max(1, self._samples.limit // REPAIR_BATCHES))
        done = repair(self._model, self._before, plan, inputs, self._context.track)
        return {"after_the_repair": self._metric(), "repair_s": done.seconds}
