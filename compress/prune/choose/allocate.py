"""Where to remove: the selection that loses the least importance within a budget of multiply-accumulates or milliseconds.

What a layer costs depends on the widths on both its sides, so families cannot be chosen one by one. A price per unit of
cost makes them comparable: at each price every family in turn takes the number that is best for it, until none changes
(coordinate descent on the Lagrangian). The price is bisected until the budget holds. Then a local search gives back
what still fits and exchanges removals between families. No randomness: the same problem has the same answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.prune.choose.cost import Cost, Counts, Floats, Skips

PRICES = 40
"""Bisections of the price."""
STARTS = 6
"""Selections within the budget, met on the way, that the local search starts from."""
STEPS = (1, 2, 4, 8)
"""How far along a family's admissible numbers the local search looks."""
SETTLED = 4
"""Blocks taken or given back, those that lose the least at once, after which the families settle again."""
EXCHANGES = 128
"""Pairs of moves that are priced exactly in one round of the local search."""


@dataclass(frozen=True)
class Problem:
    """What may be removed, and what is lost with it.

    Args:
        counts: for each family the admissible numbers of groups that go, ascending from 0.
        losses: for each family the importance lost with each of these numbers, ascending from 0.
        block_losses: importance lost with each block that may be skipped.
        within: families that go with a block, and are then free, shape (blocks, families).
        taken: how many groups a block takes of those of them that others read, and that so count for the cost.
        cost: see compress.prune.choose.cost.
    """

    counts: Sequence[NDArray[np.int64]]
    losses: Sequence[Floats]
    block_losses: Floats
    within: NDArray[np.bool_]
    taken: NDArray[np.int64]
    cost: Cost

    def go_with(self, skipped: Skips) -> Counts:
        """The groups that go with the blocks, shape (candidates, families)."""
        most: Counts = (skipped[:, :, None] * self.taken[None]).max(1, initial=0)
        return most


@dataclass(frozen=True)
class Allocation:
    """An answer: the number of groups that go of each family, the blocks that go, the importance lost, the cost."""

    counts: tuple[int, ...]
    skipped: tuple[bool, ...]
    loss: float
    cost: float


@dataclass(frozen=True)
class _State:
    """Choices by their place among the admissible numbers."""

    chosen: tuple[int, ...]
    skipped: tuple[bool, ...]


def allocate(problem: Problem, budget: float) -> Allocation | None:
    """The allocation that loses the least importance at a cost of at most `budget`; None if the budget is out of reach."""
    start = _State((0,) * len(problem.counts), (False,) * len(problem.block_losses))
    if _cost(problem, [start])[0] <= budget:
        return _allocation(problem, start)
    found = dict.fromkeys(_along_prices(problem, start, budget))
    if (greedy := _into(problem, start, budget)) is not None:
        found[greedy] = None
    within = [state for state in found if _cost(problem, [state])[0] <= budget]
    best = sorted(within, key=lambda state: _loss(problem, [state])[0])[:STARTS]
    improved = [_improve(problem, state, budget) for state in best]
    if not improved:
        return None
    least = min(improved, key=lambda state: _loss(problem, [state])[0])
    return _allocation(problem, _reconsider_blocks(problem, least, budget))


def cheapest(problem: Problem) -> Allocation:
    """The allocation that costs the least, whatever is lost."""
    start = _State((0,) * len(problem.counts), (False,) * len(problem.block_losses))
    most = _State(tuple(len(each) - 1 for each in problem.counts), (True,) * len(problem.block_losses))
    ends = [_descend(problem, state, np.inf) for state in (start, most)]
    return _allocation(problem, min(ends, key=lambda state: _cost(problem, [state])[0]))


def _along_prices(problem: Problem, start: _State, budget: float) -> Iterator[_State]:
    """The selections that are best at the prices of a bisection towards the budget; first the cheapest there is."""
    low, high = 0.0, 1.0
    yield _descend(problem, start, np.inf)
    below = start
    total = sum(float(each[-1]) for each in problem.losses) + float(problem.block_losses.sum())
    scale = max(total, 1e-30) / float(_cost(problem, [start])[0])
    for _ in range(PRICES):
        state = _descend(problem, below, high * scale)
        yield state
        if _cost(problem, [state])[0] <= budget:
            break
        low, below, high = high, state, 4 * high
    for _ in range(PRICES):
        middle = (low * high) ** 0.5 if low > 0 else high / 16
        state = _descend(problem, below, middle * scale)
        yield state
        if _cost(problem, [state])[0] <= budget:
            high = middle
        else:
            low, below = middle, state
        if high <= low * 1.0005 or high < 1e-12:
            break


def _descend(problem: Problem, state: _State, price: float) -> _State:
    """Improve one family or block after another at a price for a unit of cost, until nothing changes.

    Args:
        price: infinite minds the cost alone.
    """
    for _ in range(20):
        before = state
        for place in range(len(problem.block_losses)):
            state = _best(problem, [_skipping(state, place, skip) for skip in (False, True)], price)
        for place in range(len(problem.counts)):
            if not any(skip and problem.within[block, place] for block, skip in enumerate(state.skipped)):
                state = _best(problem, [_taking(state, place, k) for k in range(len(problem.counts[place]))], price)
        if state == before:
            break
    return state


def _best(problem: Problem, states: Sequence[_State], price: float) -> _State:
    """Ties go to the first: to the smaller removal."""
    cost = _cost(problem, states)
    value = cost if np.isinf(price) else _loss(problem, states) + price * cost
    return states[int(np.argmin(value))]


def _improve(problem: Problem, state: _State, budget: float) -> _State:
    """Moves and exchanges of two moves that lose less and stay within the budget, the best first, until there is none."""
    for _ in range(500):
        moves = [each for each in _moves(problem, state) if each != state]
        loss, cost = float(_loss(problem, [state])[0]), float(_cost(problem, [state])[0])
        change = _loss(problem, moves) - loss
        extra = _cost(problem, moves) - cost
        fitting = np.flatnonzero((change < 0) & (cost + extra <= budget))
        if len(fitting):
            state = moves[int(fitting[np.argmin(change[fitting])])]
            continue
        better = _exchange(problem, state, moves, change, extra, budget)
        if better is None:
            break
        state = better
    return state


def _reconsider_blocks(problem: Problem, state: _State, budget: float) -> _State:
    """Take or give back one whole block and let the families settle again, as long as that loses less."""
    for _ in range(len(problem.block_losses)):
        others = [
            other
            for place, skip in enumerate(state.skipped)
            if (other := _into(problem, _skipping(state, place, not skip), budget, held=place)) is not None
        ]
        promising = sorted(others, key=lambda each: _loss(problem, [each])[0])[:SETTLED]
        settled = [_improve(problem, each, budget) for each in promising]
        best = min(settled, key=lambda each: _loss(problem, [each])[0], default=state)
        if _loss(problem, [best])[0] >= _loss(problem, [state])[0] - 1e-12:
            break
        state = best
    return state


def _into(problem: Problem, state: _State, budget: float, held: int | None = None) -> _State | None:
    """Move by move the least loss for the cost saved, until the budget holds; None if it cannot.

    Args:
        held: the block that stays as it is.
    """
    while (cost := float(_cost(problem, [state])[0])) > budget:
        moves = [each for each in _moves(problem, state) if held is None or each.skipped[held] == state.skipped[held]]
        extra = _cost(problem, moves) - cost
        saving = np.flatnonzero(extra < 0)
        if not len(saving):
            return None
        change = _loss(problem, moves) - float(_loss(problem, [state])[0])
        state = moves[int(saving[np.argmin(change[saving] / -extra[saving])])]
    return state


def _exchange(
    problem: Problem, state: _State, moves: Sequence[_State], change: Floats, extra: Floats, budget: float
) -> _State | None:
    """The best pair of a giving and a taking move. Their costs are added up to find the promising pairs, then taken anew."""
    gives, takes = np.flatnonzero(change < 0), np.flatnonzero(extra < 0)
    gain = change[gives, None] + change[None, takes]
    room = budget - float(_cost(problem, [state])[0])
    promising = (gain < -1e-12) & (extra[gives, None] + extra[None, takes] <= 1.5 * max(room, 0.0) + 0.02 * abs(budget))
    rows, columns = np.nonzero(promising)
    order = np.argsort(gain[rows, columns], kind="stable")[:EXCHANGES]
    pairs = [
        both
        for i in order
        if (both := _both(state, moves[int(gives[rows[i]])], moves[int(takes[columns[i]])])) is not None
    ]
    if not pairs:
        return None
    loss = _loss(problem, pairs)
    usable = np.flatnonzero((_cost(problem, pairs) <= budget) & (loss < _loss(problem, [state])[0] - 1e-12))
    return pairs[int(usable[np.argmin(loss[usable])])] if len(usable) else None


def _both(state: _State, one: _State, other: _State) -> _State | None:
    """The state after two moves; None where both move the same thing."""
    chosen, skipped = list(one.chosen), list(one.skipped)
    for place, (old, new) in enumerate(zip(state.chosen, other.chosen, strict=True)):
        if new != old:
            if chosen[place] != old:
                return None
            chosen[place] = new
    for place, (was, now) in enumerate(zip(state.skipped, other.skipped, strict=True)):
        if now != was:
            if skipped[place] != was:
                return None
            skipped[place] = now
    return _State(tuple(chosen), tuple(skipped))


def _moves(problem: Problem, state: _State) -> Iterator[_State]:
    for place, options in enumerate(problem.counts):
        for step in (*STEPS, *(-step for step in STEPS)):
            if 0 <= (number := state.chosen[place] + step) < len(options):
                yield _taking(state, place, number)
    for place, skip in enumerate(state.skipped):
        yield _skipping(state, place, not skip)


def _taking(state: _State, place: int, number: int) -> _State:
    return _State((*state.chosen[:place], number, *state.chosen[place + 1 :]), state.skipped)


def _skipping(state: _State, place: int, skip: bool) -> _State:
    return _State(state.chosen, (*state.skipped[:place], skip, *state.skipped[place + 1 :]))


def _arrays(problem: Problem, states: Sequence[_State]) -> tuple[Counts, Skips]:
    chosen = np.array([state.chosen for state in states], np.int64).reshape(len(states), len(problem.counts))
    counts = np.empty_like(chosen)
    for place, options in enumerate(problem.counts):
        counts[:, place] = options[chosen[:, place]]
    skipped = np.array([state.skipped for state in states], bool).reshape(len(states), len(problem.block_losses))
    return np.maximum(counts, problem.go_with(skipped)), skipped


def _cost(problem: Problem, states: Sequence[_State]) -> Floats:
    return problem.cost(*_arrays(problem, states))


def _loss(problem: Problem, states: Sequence[_State]) -> Floats:
    skipped = np.array([state.skipped for state in states], bool).reshape(len(states), len(problem.block_losses))
    chosen = np.array([state.chosen for state in states], np.int64).reshape(len(states), len(problem.counts))
    free = skipped @ problem.within
    total = skipped @ problem.block_losses
    for place, losses in enumerate(problem.losses):
        total = total + np.where(free[:, place], 0.0, losses[chosen[:, place]])
    return total


def _allocation(problem: Problem, state: _State) -> Allocation:
    skipped = np.array([state.skipped], bool).reshape(1, len(problem.block_losses))
    free, taken = (skipped @ problem.within)[0], problem.go_with(skipped)[0]
    counts = tuple(
        int(taken[place]) if free[place] else int(options[k])
        for place, (options, k) in enumerate(zip(problem.counts, state.chosen, strict=True))
    )
    return Allocation(counts, state.skipped, float(_loss(problem, [state])[0]), float(_cost(problem, [state])[0]))
