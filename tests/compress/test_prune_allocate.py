import itertools

import numpy as np
import pytest

from compress.prune.choose.allocate import Problem, allocate, cheapest


class Chain:
    """Layers in a row: each costs its inputs' width times its outputs' width, as the layers of a network do.

    Family i is the width between layer i and layer i + 1; a block of two layers goes with the family between them, a
    branch of one layer with the family that it makes, of which the next layer then reads nothing.
    """

    def __init__(self, widths, blocks, weights):
        self.widths, self.weights, self.blocks = np.array(widths, float), np.array(weights, float), blocks

    def __call__(self, counts, skipped):
        left = np.pad(self.widths - counts, ((0, 0), (1, 1)), constant_values=3.0)
        layers = self.weights * left[:, :-1] * left[:, 1:]
        gone = np.zeros_like(layers, bool)
        for place, (first, last) in enumerate(self.blocks):
            gone[:, first : last + 1] |= skipped[:, place, None]
        return 1.0 + np.where(gone, 0.0, layers).sum(1)


def random_problem(seed, families=5, blocks=(), branches=False):
    generator = np.random.default_rng(seed)
    widths = generator.integers(4, 9, families)
    cost = Chain(widths, blocks, generator.uniform(0.5, 2.0, families + 1))
    counts = [np.arange(0, width, generator.integers(1, 3)) for width in widths]
    losses = [
        np.concatenate([[0.0], np.cumsum(np.sort(generator.exponential(size=width)))])[each]
        for width, each in zip(widths, counts, strict=True)
    ]
    within = np.zeros((len(blocks), families), bool)
    for place, (first, last) in enumerate(blocks):
        within[place, first : last + branches] = True
    taken = np.where(within & branches, widths, 0)
    return Problem(counts, losses, generator.exponential(3.0, len(blocks)), within, taken, cost)


def by_brute_force(problem, budget):
    """The smallest loss of all selections within the budget."""
    best = np.inf
    places = list(itertools.product(*[range(len(each)) for each in problem.counts]))
    counts = np.array([[c[k] for c, k in zip(problem.counts, place, strict=True)] for place in places])
    for skipped in itertools.product([False, True], repeat=len(problem.block_losses)):
        skips = np.array(skipped, bool)
        cut = np.maximum(counts, skips @ problem.taken)
        cost = problem.cost(cut, np.tile(skips, (len(counts), 1)))
        free = skips @ problem.within
        loss = skips @ problem.block_losses + sum(
            np.where(free[i], 0.0, losses[[place[i] for place in places]]) for i, losses in enumerate(problem.losses)
        )
        best = min(best, loss[cost <= budget].min(initial=np.inf))
    return best


def full_cost(problem):
    return problem.cost(np.zeros((1, len(problem.counts)), int), np.zeros((1, len(problem.block_losses)), bool))[0]


@pytest.mark.parametrize(("blocks", "branches"), [((), False), (((0, 1), (3, 4)), False), (((1, 1), (3, 3)), True)])
def test_close_to_the_best_of_all_selections(blocks, branches):
    found, best = [], []
    for seed in range(10):
        problem = random_problem(seed, blocks=blocks, branches=branches)
        budget = full_cost(problem) / (1.3 + 0.2 * seed)
        result = allocate(problem, budget)
        optimum = by_brute_force(problem, budget)
        if result is None:
            assert np.isinf(optimum)
            continue
        assert result.cost <= budget
        found.append(result.loss)
        best.append(optimum)
    ratios = np.array(found) / np.array(best)
    assert len(ratios) >= 8 and ratios.min() >= 1 - 1e-9
    assert np.median(ratios) == pytest.approx(1.0) and ratios.max() <= 1.06


def test_a_budget_out_of_reach_has_no_answer_and_the_cheapest_is_known():
    problem = random_problem(3, blocks=((0, 1),))
    least = cheapest(problem)
    most = np.array([[each[-1] for each in problem.counts]])
    assert least.cost <= problem.cost(most, np.array([[True]]))[0]
    assert allocate(problem, 0.99 * least.cost) is None
    assert allocate(problem, least.cost).cost == least.cost


def test_nothing_goes_where_the_budget_holds_already_and_the_same_problem_has_the_same_answer():
    problem = random_problem(4)
    assert allocate(problem, full_cost(problem)).counts == (0,) * 5
    assert allocate(problem, full_cost(problem) / 2) == allocate(random_problem(4), full_cost(problem) / 2)


def test_steps_that_save_nothing_are_not_taken():
    """A runtime that rounds widths up to a multiple of 8 rewards no width between."""

    def cost(counts, skipped):
        return np.ceil((32 - counts) / 8).sum(1)

    losses = np.cumsum(np.arange(25.0))
    problem = Problem(
        [np.arange(25)] * 2, [losses] * 2, np.zeros(0), np.zeros((0, 2), bool), np.zeros((0, 2), int), cost
    )
    assert all(count % 8 == 0 for count in allocate(problem, 5.0).counts)
