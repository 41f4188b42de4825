"""Two plans, one after the other, as one."""

from __future__ import annotations

from compress.prune.plan import Cut, PrunePlan


def compose(first: PrunePlan, second: PrunePlan) -> PrunePlan:
    """The plan that does to the original what `first` does to it and then `second` to the result.

    Args:
        second: made from the model that `first` left, so that it names all that is skipped and rewritten by then.
    """
    cuts = {(cut.tensor, cut.dim): cut for cut in first.cuts}
    for cut in second.cuts:
        before = cuts.get((cut.tensor, cut.dim))
        cuts[cut.tensor, cut.dim] = cut if before is None else _both(before, cut)
    return PrunePlan(
        tuple(cuts[axis] for axis in sorted(cuts)),
        tuple(sorted({*first.skipped, *second.skipped})),
        tuple(sorted({*first.tuples, *second.tuples})),
        tuple(dict.fromkeys((*first.rewritten, *second.rewritten))),
        tuple(sorted({*first.branches, *second.branches})),
    )


def _both(first: Cut, second: Cut) -> Cut:
    gone = set(first.removed)
    left = [index for index in range(first.size) if index not in gone]
    return Cut(first.tensor, first.dim, first.size, tuple(sorted(gone | {left[index] for index in second.removed})))
