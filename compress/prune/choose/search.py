"""Search for the plan: rank, choose, prove, and choose again without what could not be proven."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from compress.prune.channels import Group, LeftAlone, together
from compress.prune.choose.goal import Goal, Reached, reach
from compress.prune.choose.select import Family, FamilyAxes, RatedBlock, Selection, channels_of
from compress.prune.exactness import Refused, check, keep_exact
from compress.prune.follow import Following
from compress.prune.follow.trace import first_line
from compress.prune.importance import Scores
from compress.prune.plan import PrunePlan, apply, named_tensors
from export.errors import CompressError, UnsupportedError

Batches = Sequence[Mapping[str, Tensor]]


@dataclass(frozen=True)
class Found:
    """A proven plan.

    Args:
        plan: what is removed.
        difference: the largest relative difference between the pruned and the zeroed model.
        reached: the goal's figure, predicted and measured.
        left_alone: what stays although its channels could be followed, and why.
    """

    plan: PrunePlan
    difference: float
    reached: Reached
    left_alone: tuple[LeftAlone, ...]


def rank(
    model: nn.Module,
    following: Following,
    scores: Callable[[Sequence[Group]], Scores],
    max_removed: Callable[[Sequence[Group]], float],
    multiple_of: int,
    go_whole: Collection[FamilyAxes] = (),
) -> tuple[list[Family], list[LeftAlone]]:
    """Families of groups, each ranked by its scores, and those of which nothing may go.

    Args:
        scores: of the groups of a family; comparable with those of any other.
        max_removed: the largest share of a family.
        go_whole: families that may go with a branch.
    """
    families = [
        Family.of(
            groups,
            scores(groups),
            _width(model, groups[0]),
            max_removed(groups),
            multiple_of,
            groups[0].family in go_whole,
        )
        for groups in together(following.groups)
    ]
    fixed = [
        LeftAlone(place(family.groups[0]), f"max_removed and {multiple_of=} leave nothing to remove")
        for family in families
        if len(family.reachable) == 1
    ]
    return [family for family in families if len(family.reachable) > 1], fixed


def find_plan(
    model: nn.Module, families: Sequence[Family], blocks: Sequence[RatedBlock], goal: Goal, batches: Batches
) -> Found:
    """The removal that reaches the goal, loses the least importance and is exact on `batches`.

    Raises:
        UnsupportedError: nothing can be removed exactly, or not enough.
    """
    usable, refused = _provable(model, families, batches)
    while usable or blocks:
        blocks = _emptying_these(blocks, usable)
        reached = reach(goal, usable, blocks, _measure(model, usable, goal))
        _, more = keep_exact(model, _parts(reached.selection, usable, blocks), batches)
        if not more:
            plan = _plan(model, usable, reached.selection)
            proof = check(model, plan, batches)
            if proof.refusal is None or not any(each.empties for each in blocks):
                return Found(plan, proof.difference, reached, _explain(refused))
            blocks = [each for each in blocks if not each.empties]  # branches were proven one by one
        refused += more
        usable = _without(usable, more)
    reasons = "; ".join(f"{each.where}: {each.reason}" for each in _explain(refused))
    raise UnsupportedError(f"prune: no channel of {type(model).__name__} can be removed exactly ({reasons})")


def place(group: Group) -> str:
    """The module that produces a group, for messages."""
    return group.slices[0].tensor.rpartition(".")[0]


def _measure(model: nn.Module, families: Sequence[Family], goal: Goal) -> Callable[[Selection, float], float]:
    """Selection and predicted cost -> the goal's figure of a copy of the model without it."""
    total = sum(channels_of(group) for family in families for group in family.groups)

    def measure(selection: Selection, cost: float) -> float:
        pruned = copy.deepcopy(model)
        apply(pruned, _plan(model, families, selection))
        try:
            return goal.measure(pruned, cost)
        except CompressError:
            raise
        except Exception as error:  # the user's forward, which took fewer and more, may raise anything here
            removed = sum(map(channels_of, selection.groups(families)))
            raise UnsupportedError(
                f"prune: {type(model).__name__} fails without {removed} of its {total} removable channels, though not "
                f"without fewer or more: {first_line(error)}. Name the layer that cannot take it in prune.exclude"
            ) from error

    return measure


def _plan(model: nn.Module, families: Sequence[Family], selection: Selection) -> PrunePlan:
    return PrunePlan.of(model, selection.groups(families), selection.skipped)


def _emptying_these(blocks: Sequence[RatedBlock], families: Sequence[Family]) -> list[RatedBlock]:
    """Without the branches that empty others."""
    known = {family.axes for family in families}
    return [each for each in blocks if each.empties <= known]


def _parts(selection: Selection, families: Sequence[Family], blocks: Sequence[RatedBlock]) -> list[tuple[Group, ...]]:
    """The groups that go family by family, but for those that go whole with a branch."""
    whole = {axes for each in blocks if each.block in selection.skipped for axes in each.empties}
    parts = zip(families, selection.parts(families), strict=True)
    return [part for family, part in parts if part and family.axes not in whole]


def _provable(model: nn.Module, families: Sequence[Family], batches: Batches) -> tuple[list[Family], list[Refused]]:
    """The families of which the fewest and the most groups can go exactly: no forward pass breaks while searching."""
    usable, refused = list(families), list[Refused]()
    for extreme in (1, -1):
        probes = [family.groups[: family.counts[extreme]] for family in usable if len(family.counts) > 1]
        refused += (more := keep_exact(model, probes, batches)[1])
        usable = _without(usable, more)
    return usable, refused


def _without(families: Sequence[Family], refused: Sequence[Refused]) -> list[Family]:
    gone = {each.groups[0].family for each in refused}
    return [family for family in families if family.groups[0].family not in gone]


def _explain(refused: Sequence[Refused]) -> tuple[LeftAlone, ...]:
    return tuple(LeftAlone(place(each.groups[0]), each.reason) for each in refused)


def _width(model: nn.Module, group: Group) -> int:
    """Size of the narrowest axis that a group lies in."""
    tensors = named_tensors(model)
    return min(int(tensors[piece.tensor].shape[piece.dim]) for piece in group.slices)
