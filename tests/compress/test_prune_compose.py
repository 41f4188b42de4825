from compress.prune.compose import compose
from compress.prune.plan import Cut, PrunePlan


def test_two_plans_become_one_in_the_indices_of_the_original():
    first = PrunePlan((Cut("a", 0, 6, (1, 4)), Cut("b", 1, 3, (0,))), skipped=("x",))
    second = PrunePlan((Cut("a", 0, 4, (0, 2)), Cut("c", 0, 2, (1,))), skipped=("x", "y"), tuples=("y",))
    # a keeps 0, 2, 3, 5 after the first; of these the second removes places 0 and 2: 0 and 3
    assert compose(first, second) == PrunePlan(
        (Cut("a", 0, 6, (0, 1, 3, 4)), Cut("b", 1, 3, (0,)), Cut("c", 0, 2, (1,))), skipped=("x", "y"), tuples=("y",)
    )
