"""Which scheme ships, and when the original does."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from benchmarks.measurements import Interval
from compress.deploy.choice import ORIGINAL, Ratios, Trial, choose, confirm, lost_before
from compress.recipe_settings import Budget


def trial(scheme: str, drop: float, value: float, low: float, **others: dict[int, Interval]) -> Trial:
    return Trial(
        scheme,
        drop,
        Ratios({1: Interval(value, low, value + 0.1)} | others.get("at", {}), others.get("over_original", {})),
    )


FP32 = trial("fp32", 0.0, 1.0, 0.99)
SLOW = Interval(0.85, 0.83, 0.87)


def test_the_fastest_scheme_inside_the_budget_ships() -> None:
    trials = [FP32, trial("a", 0.002, 2.0, 1.9), trial("b", 0.004, 2.4, 2.3), trial("c", 0.2, 3.0, 2.9)]
    assert choose(trials, "fp32", Budget(metric_drop=0.01))[0] == "b"


def test_of_schemes_that_keep_the_metric_one_that_keeps_the_bytes_ships() -> None:
    """As it was met in the demo: two schemes of INT8, equally fast but for noise, at 0.45x and 0.52x the bytes."""
    small, large = (
        replace(trial(name, 0.0, value, value - 0.1), size_ratio=size)
        for name, value, size in (("int8-nncf", 2.36, 0.45), ("int8", 2.4, 0.52))
    )
    chosen, why = choose([FP32, large, small], "fp32", Budget(size_ratio=0.5))
    assert chosen == "int8-nncf"
    assert why.startswith(
        "fastest of 3 schemes inside the budget on validation data; int8 is faster (2.40x [2.30, 2.50]"
    )
    assert why.endswith("takes 0.52x the bytes of the original in FP32, at most 0.5x allowed")
    assert choose([FP32, large, small], "fp32", Budget(size_ratio=0.6))[0] == "int8"
    assert choose([FP32, large, small], "fp32", Budget())[0] == "int8"
    assert choose([FP32, large], "fp32", Budget(size_ratio=0.5))[0] == "int8", "the verdict says that it is too large"


def test_what_the_steps_lost_is_not_held_against_the_schemes() -> None:
    final = trial("fp32", 0.07, 1.0, 0.99)
    chosen, why = choose(
        [final, trial("a", 0.073, 2.0, 1.9), trial("b", 0.09, 3.0, 2.9)], "fp32", Budget(metric_drop=0.01)
    )
    assert chosen == "a"
    assert "held against the final model in FP32, which itself loses 0.0700 there" in why


def test_a_drop_of_just_the_limit_is_inside_it() -> None:
    drop = 1.0 - 57 / 60
    assert drop > 0.05
    assert choose([FP32, trial("a", drop, 2.0, 1.9)], "fp32", Budget(metric_drop=0.05))[0] == "a"


@pytest.mark.parametrize(
    ("trials", "reason"),
    [
        ([FP32], r"no other scheme"),
        ([FP32, trial("a", 0.05, 2.0, 1.9)], r"every faster scheme lost more than 0.01 .*a, 0.0500"),
        ([FP32, trial("a", 0.0123, 2.0, 1.9)], r"every faster scheme lost more than 0.01 .*a, 0.0123"),
        ([FP32, trial("a", 1.0142e304, 2.0, 1.9)], r"every faster scheme lost more than 0.01 .*a, 1.01e\+304$"),
        ([FP32, trial("a", 0.0, 1.02, 0.98)], r"no accurate scheme beat FP32 beyond the measuring interval"),
    ],
)
def test_fp32_ships_where_nothing_earns_its_place(trials: list[Trial], reason: str) -> None:
    name, why = choose(trials, "fp32", Budget(metric_drop=0.01))
    assert name == "fp32"
    assert re.search(reason, why)


def test_a_scheme_with_wrong_answers_never_ships() -> None:
    constant = Trial("a", 0.0, Ratios({1: Interval(3.0, 2.9, 3.1)}), ("every sample is given class '3'",))
    assert choose([FP32, constant, trial("b", 0.0, 2.0, 1.9)], "fp32", Budget())[0] == "b"
    name, why = choose([FP32, constant], "fp32", Budget())
    assert (name, why) == ("fp32", "the answers of every other scheme are wrong: a: every sample is given class '3'")


def test_a_scheme_that_is_slower_at_another_batch_size_does_not_ship() -> None:
    slow_at_32 = trial("a", 0.0, 3.0, 2.9, at={32: SLOW})
    assert choose([FP32, slow_at_32, trial("b", 0.0, 2.0, 1.9)], "fp32", Budget())[0] == "b"
    name, why = choose([FP32, slow_at_32], "fp32", Budget())
    assert name == "fp32"
    assert (
        why
        == "every accurate scheme is slower at some batch size: a is slower than FP32 at batch 32: 0.85x [0.83, 0.87]"
    )


def test_slower_within_the_interval_is_not_slower() -> None:
    even = Interval(0.99, 0.97, 1.001)
    assert choose([FP32, trial("a", 0.0, 3.0, 2.9, at={32: even})], "fp32", Budget())[0] == "a"


def test_a_scheme_that_is_slower_than_the_original_does_not_ship() -> None:
    pruned = trial("fp32", 0.0, 1.0, 0.99, over_original={1: Interval(1.1, 1.05, 1.15)})
    int8 = trial("a", 0.0, 3.0, 2.9, over_original={1: Interval(1.3, 1.2, 1.4), 32: SLOW})
    name, why = choose([pruned, int8], "fp32", Budget())
    assert name == "fp32"
    assert "a is slower than the original in FP32 at batch 32: 0.85x" in why


def test_the_original_ships_where_the_final_model_is_slower_and_no_scheme_mends_it() -> None:
    pruned = trial("fp32", 0.0, 1.0, 0.99, over_original={1: Interval(1.1, 1.05, 1.15), 32: SLOW})
    name, why = choose([pruned], "fp32", Budget())
    assert name == ORIGINAL
    assert why == (
        "no other scheme was offered or could be built; the final model in FP32 is slower than the original in FP32 at "
        "batch 32: 0.85x [0.83, 0.87], so that the original in FP32 ships"
    )


FAST = Ratios({1: Interval(2.0, 1.9, 2.1)}, {1: Interval(2.0, 1.9, 2.1)})
SLOWER = Ratios({1: Interval(2.0, 1.9, 2.1), 32: SLOW})


def test_what_is_confirmed_afresh_ships() -> None:
    assert confirm("a", "fp32", {"a": FAST, "fp32": Ratios({})}) == ("a", None)
    assert confirm("fp32", "fp32", {"fp32": Ratios({})}) == ("fp32", None)
    assert confirm(ORIGINAL, "fp32", {"fp32": SLOWER, ORIGINAL: Ratios({})}) == (ORIGINAL, None)


def test_what_turns_out_slower_afresh_gives_way_and_says_so() -> None:
    name, why = confirm("a", "fp32", {"a": SLOWER, "fp32": Ratios({}, {1: Interval(1.2, 1.1, 1.3)})})
    assert name == "fp32"
    assert why == (
        "measured afresh, a is slower than FP32 at batch 32: 0.85x [0.83, 0.87], so that the final model in FP32 ships"
    )
    name, why = confirm("a", "fp32", {"a": SLOWER, "fp32": Ratios({}, {1: SLOW})})
    assert name == ORIGINAL
    assert why is not None and why.endswith(
        "; measured afresh, the final model in FP32 is slower than the original in FP32 at batch 1: 0.85x [0.83, 0.87], "
        "so that the original in FP32 ships"
    )


def test_what_the_steps_spent_is_no_scheme_of_its_own() -> None:
    assert lost_before(0.02, 0.01) == 0.02
    assert lost_before(0.005, 0.01) == 0.0
    assert lost_before(0.5, None) == 0.0
