"""The candidates of a beam search against a sort of all of them."""

import numpy as np
import pytest

from targets.generation import Generation
from targets.generation.beams import Beams


def plain(scores: np.ndarray, logits: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    every = scores[:, None] + shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    best = np.argsort(-every, axis=None, kind="stable")[:count]
    return best, every.reshape(-1)[best]


@pytest.mark.parametrize("vocabulary", [5, 31, 257, 8000])
@pytest.mark.parametrize("levels", [3, 50, 10**6])
def test_the_best_are_those_of_a_whole_sort_ties_and_all(vocabulary: int, levels: int) -> None:
    draw = np.random.default_rng(vocabulary * levels)
    beams = Beams(1, Generation(end=1, padding=0, start=2, new_tokens=4, beams=3))
    for _ in range(20):
        logits = (draw.integers(0, levels, (3, vocabulary)) / levels * 8).astype(np.float32)
        beams._scores[0] = draw.integers(0, 3, 3) / 2
        places, scores = beams._candidates(0, logits)
        wanted, value = plain(beams._scores[0], logits, 6)
        np.testing.assert_array_equal(places, wanted)
        np.testing.assert_allclose(scores, value, atol=1e-6)


def test_an_engine_that_overflows_gives_an_answer_nevertheless() -> None:
    beams = Beams(1, Generation(end=1, padding=0, start=2, new_tokens=2, beams=2))
    logits = np.zeros((2, 300), dtype=np.float32)
    logits[:, 7::8] = np.nan
    with np.errstate(invalid="ignore"):
        while not beams.done:
            beams.advance(logits)
    assert beams.best().shape == (1, 2)
