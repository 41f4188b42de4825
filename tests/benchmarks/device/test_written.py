"""Answers of a model that writes against golden ones: the same, another that is as likely, and ones that are wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from benchmarks.device.written import answer, judged
from export.model import TensorSpec
from targets.base import Arrays
from targets.generation import Generation
from targets.generation.session import GenerationSession
from tests.targets.writers import END, PADDING, WORDS, greedy, logits_after

PROMPTS = ([3, 5, 10], [3, 5, 11], [11, 7, 6], [3, 7])
CACHE = TensorSpec("past_key.0", "float32", ("batch", 1, "past", 1))

Changed = Callable[[np.ndarray, list[int]], np.ndarray]
"""Logits of the next token and all tokens read -> other logits."""


class Decoder:
    """The hand-made decoder in numpy, with its logits changed."""

    def __init__(self, changed: Changed) -> None:
        self._changed = changed

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        before = inputs["past_key.0"][:, 0, :, 0]
        read = np.concatenate([before, inputs["input_ids"]], axis=1)
        logits = [
            [self._next(row[: before.shape[1] + place + 1]) for place in range(inputs["input_ids"].shape[1])]
            for row in read
        ]
        return {"logits": np.array(logits, np.float32), "present_key.0": read[:, None, :, None].astype(np.float32)}

    def _next(self, row: np.ndarray) -> np.ndarray:
        history = [int(token) for token in row]
        return self._changed(logits_after(history), history)

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def opened(changed: Changed = lambda logits, _: logits, **settings: object) -> tuple[GenerationSession, Generation]:
    generation = Generation(**{"end": END, "padding": PADDING, "new_tokens": 6} | settings)  # type: ignore[arg-type]
    return GenerationSession({"decoder": Decoder(changed)}, [CACHE], generation), generation


def golden(**settings: object) -> list[tuple[Arrays, Arrays]]:
    """Prompts with the answers of the unchanged decoder."""
    session, generation = opened(**settings)
    prompts = [{"input_ids": np.array([ids])} for ids in PROMPTS]
    return [(prompt, answer(session, prompt, generation)[0]) for prompt in prompts]


def test_what_is_kept_of_an_answer_is_what_the_formula_gives() -> None:
    for (_, kept), ids in zip(golden(), PROMPTS, strict=True):
        tokens = kept["tokens"][0].tolist()
        assert tokens == greedy(ids, 6)
        length = tokens.index(END) + 1 if END in tokens else 6
        for place in range(6):
            logits = logits_after([*ids, *tokens[:place]]) if place < length else None
            likeliest = [0] * 8 if logits is None else np.argsort(-logits, kind="stable")[:8].tolist()
            assert kept["likeliest"][0, place].tolist() == likeliest
            expected = np.zeros(8) if logits is None else logits[likeliest]
            np.testing.assert_allclose(kept["logits"][0, place], expected, rtol=1e-5, atol=1e-5)
            log_sum = 0.0 if logits is None else float(np.log(np.exp(logits).sum()))
            assert kept["log_sum"][0, place] == pytest.approx(log_sum, rel=1e-5)


@pytest.mark.parametrize(
    "settings", [{}, {"beams": 3}, {"temperature": 0.8, "seed": 5}, {"temperature": 1.5, "top_k": 4}]
)
def test_the_same_model_passes(settings: dict[str, object]) -> None:
    session, generation = opened(**settings)
    told = judged(session, golden(**settings), 1e-3, generation)
    assert (told.findings, told.unlike, told.samples) == ((), 0, 4) and told.closest < 0.01


def likelier(token: int, by: float) -> Changed:
    def change(logits: np.ndarray, _: list[int]) -> np.ndarray:
        return logits + by * (np.arange(WORDS) == token)

    return change


def test_logits_beyond_the_tolerance_are_told_though_every_token_is_the_same() -> None:
    shifted, generation = opened(lambda logits, _: logits + 0.5)
    told = judged(shifted, golden(), 0.1, generation)
    assert told.unlike == 0 and told.closest == pytest.approx(5.0, rel=1e-3)
    assert told.findings == ("the logits of the answer differ by 0.5 at golden input 0, 0.1 is allowed",)


def test_a_token_that_was_far_behind_is_noticed_in_the_sum() -> None:
    """It is not among the likeliest whose logits are kept."""
    ids = list(PROMPTS[0])
    least = int(logits_after(ids).argmin())
    raised, generation = opened(
        lambda logits, history: likelier(least, 30.0)(logits, history) if history == ids else logits
    )
    told = judged(raised, golden()[:1], 0.1, generation)
    assert told.unlike == 1 and len(told.findings) == 2
    assert told.findings[0].startswith("the logits of the answer differ by ")
    assert told.findings[1].startswith(f"the answer to golden input 0 is another: token 0 is {least} instead of ")


def near_tie() -> tuple[list[int], int, float]:
    """A prompt of two tokens whose best two next tokens lie closest together, the second of them, and how far behind it is."""
    found = []
    for one in range(3, WORDS):
        for two in range(3, WORDS):
            logits = logits_after([one, two])
            first, second = np.argsort(-logits)[:2]
            found.append((float(logits[first] - logits[second]), [one, two], int(second)))
    gap, ids, second = min(found)
    return ids, second, gap


def test_another_token_that_is_as_likely_is_no_failure() -> None:
    """Two machines differ by a little, and the text goes another way from there."""
    ids, second, gap = near_tie()
    session, generation = opened()
    prompt = {"input_ids": np.array([ids])}
    samples = [(prompt, answer(session, prompt, generation)[0])]
    other, _ = opened(
        lambda logits, history: likelier(second, 1.2 * gap)(logits, history) if history == ids else logits
    )
    assert int(other.run(prompt)["tokens"][0, 0]) == second
    told = judged(other, samples, 1.5 * gap, generation)
    assert (told.findings, told.unlike) == ((), 1) and 0.5 < told.closest < 1


class Forgetful(Decoder):
    """Drops the cache once there are five tokens: a loop that goes wrong, though every call by itself is right."""

    def __init__(self) -> None:
        super().__init__(lambda logits, _: logits)
        self.forgets = True

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        if self.forgets and inputs["past_key.0"].shape[2] >= 4:
            inputs = {**inputs, "past_key.0": inputs["past_key.0"][:, :, :1]}
        return super().run(inputs)


def test_a_loop_that_loses_its_cache_fails() -> None:
    generation = Generation(end=END, padding=PADDING, new_tokens=6)
    session = GenerationSession({"decoder": Forgetful()}, [CACHE], generation)
    told = judged(session, golden(), 0.01, generation)
    assert told.unlike > 0 and len(told.findings) == 2


@pytest.mark.parametrize("settings", [{}, {"beams": 3}])
def test_tokens_that_their_own_logits_do_not_bear_out_fail(settings: dict[str, object]) -> None:
    """The logits are the golden ones; what is written is not what they say."""

    class Wrong(GenerationSession):
        def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
            return {"tokens": np.array([[3, 3, 3, 3, 3, 3]])}

    _, generation = opened(**settings)
    wrong = Wrong({"decoder": Decoder(lambda logits, _: logits)}, [CACHE], generation)
    told = judged(wrong, golden(**settings), 0.01, generation)
    assert told.closest < 0.01 and told.unlike == 4
    [finding] = told.findings
    reason = "by its own logits it is worse by" if settings else "token 0 is 3 instead of "
    assert finding.startswith(f"the answer to golden input 0 is another: {reason}") and finding.endswith("is allowed")


def test_answers_of_another_shape_and_logits_that_are_none_fail() -> None:
    class Short(GenerationSession):
        def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
            return {"tokens": np.zeros((1, 2), np.int64)}

    _, generation = opened()
    parts = {"decoder": Decoder(lambda logits, _: logits)}
    told = judged(Short(parts, [CACHE], generation), golden(), 0.01, generation)
    assert told.findings == ("the answer to golden input 0 is another: it has shape [1, 2] instead of [1, 6]",)
    broken, _ = opened(lambda logits, _: np.full(WORDS, np.nan))
    told = judged(broken, golden(), 0.01, generation)
    assert told.findings[0] == (
        "the logits of the answer are NaN, infinite or of other tokens at golden input 0, 0.01 is allowed"
    )
