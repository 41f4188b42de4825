from __future__ import annotations

import numpy as np
import pytest

from benchmarks.device.predict import guesses
from export.errors import InputError


def test_the_likeliest_first_with_its_name() -> None:
    found = guesses(np.log(np.array([[1.0, 5.0, 2.0]])), ("a", "b", "c"))
    assert [(guess.label, round(guess.probability, 6)) for guess in found] == [("b", 0.625), ("c", 0.25), ("a", 0.125)]


def test_at_most_five_and_numbers_where_there_are_no_names() -> None:
    found = guesses(np.zeros((1, 9), np.float16), ("only", "two"))
    assert [guess.label for guess in found] == ["0", "1", "2", "3", "4"]
    assert all(guess.probability == pytest.approx(1 / 9) for guess in found)


def test_a_single_logit_is_the_second_class() -> None:
    [first, second] = guesses(np.array([[2.0]]), ("no", "yes"))
    assert (first.label, second.label) == ("yes", "no")
    assert first.probability == pytest.approx(1 / (1 + np.exp(-2.0)))


def test_large_logits_do_not_overflow() -> None:
    assert guesses(np.array([[1e30, -1e30]], np.float32), ("a", "b"))[0].probability == 1.0


@pytest.mark.parametrize("shape", [(3,), (2, 3), (1, 3, 4), ()])
def test_an_output_that_is_no_row_of_classes(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"the model's output has shape \(.*\); predict tells classes"):
        guesses(np.zeros(shape), ())
