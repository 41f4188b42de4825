"""Importance as the recipe asks for it, in one currency for all families and blocks of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from compress.prune import importance as measures
from compress.prune.blocks import Block
from compress.prune.branches import Branch, offered_together
from compress.prune.calibration import FirstSamples
from compress.prune.channels import Group, together
from compress.prune.choose.select import RatedBlock
from compress.prune.importance import Importance, Scores, raw, score
from compress.prune.importance.fisher import block_fisher, fisher
from compress.prune.importance.obs import obs
from compress.prune.plan import PrunePlan
from compress.workload import Workload

Scorer = Callable[[Sequence[Group]], Scores]
"""Groups of a family -> what is lost with each; sums over families can be compared."""


def scorer(
    kind: Importance, model: nn.Module, groups: Sequence[Group], samples: FirstSamples, workload: Workload, seed: int
) -> Scorer:
    """Fisher's scores are rises of the loss, obs's of the squared change of the outputs; they stay as they are.

    All others count as a share of their family, times the number of layers that read it: what is lost with k channels
    is the part of the readers' input that goes. Sums of it are minimised. Right after halving the MACs of ResNet-56 by
    l2 (widths in steps of 1 and of 8; 1,700 training images) that kept 69 and 56 %; one threshold on normalised scores, as before, 45
    and 35 %; sums weighted by width 39 and 35 %; logarithms of the shares that stay 53 and 43 %; shares that
    do not count the readers at most 21 %.
    """
    plain = measures.l1(model)
    if kind == "obs":
        moved = obs(model, together(groups), samples, seed)
        return lambda family: raw(family, [moved, plain])
    if kind == "fisher":
        known = fisher(model, groups, samples, workload.loss)
        return lambda family: raw(family, [known, plain])
    if kind == "taylor":
        chosen = measures.taylor(model, samples, workload.loss)
    elif kind == "random":
        chosen = measures.random(model, seed)
    else:
        chosen = {"l1": measures.l1, "l2": measures.l2, "bn_scale": measures.bn_scale}[kind](model)
    return lambda family: score(family, [chosen, plain]) / len(family)


def rate_blocks(
    model: nn.Module, blocks: Sequence[Block], branches: Sequence[Branch], samples: FirstSamples, workload: Workload
) -> list[RatedBlock]:
    """The blocks with the measured rise of the loss when each is skipped, and branches when each is left out; at least nothing."""
    plans = {block: PrunePlan.of(model, (), [block]) for block in blocks}
    plans |= {branch.block: PrunePlan.of(model, branch.groups, [branch.block]) for branch in branches}
    rises = {block: max(rise, 0.0) for block, rise in block_fisher(model, plans, samples, workload.loss).items()}
    return [
        *(RatedBlock(block, rises[block]) for block in blocks),
        *_offered(branches, [rises[branch.block] for branch in branches]),
    ]


def blocks_by_channels(
    blocks: Sequence[Block], families: Sequence[Sequence[Group]], scores: Scorer
) -> list[RatedBlock]:
    """The blocks with what is lost when every channel inside goes: where scores say what cannot be mended, that is what
    skipping the block loses. A block without channels of its own is not offered."""
    rated = []
    for block in blocks:
        own = [family for family in families if all(block.holds(piece.tensor) for piece in family[0].slices)]
        if own:
            rated.append(RatedBlock(block, sum(float(scores(family).sum()) for family in own)))
    return rated


def branches_by_channels(branches: Sequence[Branch], scores: Scorer) -> list[RatedBlock]:
    """The branches with what is lost when all that is read of them goes, where scores say what cannot be mended."""
    return _offered(branches, [sum(float(scores(each).sum()) for each in branch.families) for branch in branches])


def _offered(branches: Sequence[Branch], losses: Sequence[float]) -> list[RatedBlock]:
    return [
        RatedBlock(branches[place].block, losses[place], branches[place].empties)
        for place in offered_together(branches, losses)
    ]
