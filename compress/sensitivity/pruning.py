"""The pruning half of `compress sensitivity`: some channels of one family at a time are held at zero, in torch."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from torch import nn

from benchmarks.sensitivity import LayerCost
from compress.prune.channels import Group, together
from compress.prune.choose.search import place
from compress.prune.follow import follow
from compress.prune.importance import l2, score
from compress.prune.plan import PrunePlan, named_tensors, zero
from compress.prune.rewrite import rewritable, rewrite
from compress.sensitivity.probe import Probe, outputs_of
from compress.workload import Workload
from export.progress import Track


@dataclass(frozen=True)
class Prunable:
    """A copy of the model, and its families of channels, each the least important first by the L2 norm of its weights."""

    model: nn.Module
    families: tuple[tuple[Group, ...], ...]

    @classmethod
    def of(cls, workload: Workload) -> Prunable:
        """Raises UnsupportedError if the model cannot be traced."""
        model = copy.deepcopy(workload.model).eval()
        rewrite(model, rewritable(model))
        measures = [l2(model)]
        families = [
            tuple(family[index] for index in np.argsort(score(family, measures), kind="stable"))
            for family in together(follow(model, workload.example_inputs).groups)
            if len(family) > 1
        ]
        return cls(model, tuple(families))

    def costs(self, probe: Probe, change: str, share: float, track: Track) -> list[LayerCost]:
        """What it costs when that share of one family goes."""
        shown = track(self.families, f"pruning {change} of one layer at a time", len(self.families))
        return [self._cost(family, probe, change, share) for family in shown]

    def _cost(self, family: Sequence[Group], probe: Probe, change: str, share: float) -> LayerCost:
        count = min(len(family) - 1, max(1, round(share * len(family))))
        with _held_at_zero(self.model, PrunePlan.of(self.model, family[:count])):
            outputs = outputs_of(self.model, probe.batches)
        return probe.cost(place(family[0]), f"{count} of {len(family)}", outputs)


@contextmanager
def _held_at_zero(model: nn.Module, plan: PrunePlan) -> Iterator[None]:
    tensors = named_tensors(model)
    before = {cut.tensor: tensors[cut.tensor].detach().clone() for cut in plan.cuts}
    zero(model, plan)
    try:
        yield
    finally:
        for name, values in before.items():
            tensors[name].data.copy_(values)
