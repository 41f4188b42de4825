"""Engines that cheat while they are timed are caught, with a sentence that says how."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.answers import answers_of, remembered, wrong_answers
from benchmarks.feed import Feed, kept
from benchmarks.latency import Protocol, measure
from benchmarks.studies.models import conv_inputs, conv_model, engine_on
from benchmarks.studies.planted import planted
from benchmarks.worker import Answer
from targets import Engine

QUICK = Protocol(seconds=0.5, processes=2, half_width=0.9)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = tmp_path_factory.mktemp("cheats")
    return engine_on("onnxruntime_mobile", conv_model(folder / "conv.onnx", layers=2), folder / "engine")


@pytest.mark.timing
def test_an_honest_engine_has_no_findings(honest: Engine) -> None:
    measured = measure({"honest": planted(honest, "Wrapped")}, {1: conv_inputs()}, QUICK)["honest"]
    assert measured.findings == ()


@pytest.mark.timing
def test_a_memoising_engine_is_caught_and_gains_nothing(honest: Engine) -> None:
    engines = {"honest": planted(honest, "Wrapped"), "memo": planted(honest, "Memoising")}
    measured = measure(engines, {1: conv_inputs()}, QUICK)
    [finding] = measured["memo"].findings
    assert "times faster than a new one: the engine remembers answers instead of computing them" in finding
    assert measured["memo"].timings[1].faster_than(measured["honest"].timings[1]).value < 1.2


def test_an_engine_that_goes_by_the_buffer_is_caught(honest: Engine) -> None:
    expected = {"stale": {1: answers_of(planted(honest, "Wrapped"), conv_inputs())}}
    measured = measure({"stale": planted(honest, "Stale")}, {1: conv_inputs()}, QUICK, expected=expected)["stale"]
    assert any("are not those given untimed, as in the accuracy run" in finding for finding in measured.findings)


def test_an_engine_that_skips_work_once_it_is_trusted_is_caught(honest: Engine) -> None:
    lazy = planted(honest, "Lazy", honest=20)
    expected = {"lazy": {1: answers_of(lazy, conv_inputs())}}
    measured = measure({"lazy": lazy}, {1: conv_inputs()}, QUICK, expected=expected)["lazy"]
    assert any("the engine skips work or gives old answers" in finding for finding in measured.findings)


def test_answers_may_differ_by_rounding_but_not_by_more() -> None:
    expected = [{"y": np.array([0.0, 10.0])}, {"y": np.array([-10.0, 5.0])}]
    rounded = Answer(0, {"y": np.array([0.0, 10.3])})
    wrong = Answer(1, {"y": np.array([0.0, 10.0])})
    assert wrong_answers(expected, [rounded]) is None
    assert wrong_answers(expected, []) is None
    assert "1 of 2 answers" in (wrong_answers(expected, [rounded, wrong]) or "")
    assert "1 of 1 answers" in (wrong_answers(expected, [Answer(0, {"y": np.array([0.0, np.nan])})]) or "")
    assert "1 of 1 answers" in (wrong_answers(expected, [Answer(0, {"y": np.zeros(3)})]) or "")


def test_a_little_faster_on_a_known_input_is_the_cpus_cache() -> None:
    assert remembered([1.0, 1.1], [0.9, 1.0], pairs=100) is None
    assert remembered([1.0, 9.0], [0.9, 1.0], pairs=100) is None, "one process was held up among the new inputs"
    assert "10.0 times faster" in (remembered([1.0, 1.0], [0.1, 0.1], pairs=100) or "")
    assert remembered([1.0, 1.0], [0.1, 0.1], pairs=4) is None, "two long calls in each of two processes are chance"


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_every_timed_call_gets_an_input_of_its_own_and_the_untouched_one_the_pools(dtype: type) -> None:
    random = np.random.default_rng(0)
    pool = [{"x": random.integers(0, 1000, (2, 50)).astype(dtype), "mask": np.ones((2, 50), np.int8)} for _ in range(3)]
    seen = []
    for call, (index, inputs) in enumerate(Feed(pool, seed=1).fresh(200, untouched=7)):
        assert np.array_equal(inputs["mask"], pool[index]["mask"])
        assert np.array_equal(inputs["x"], pool[index]["x"]) == (call == 7)
        assert inputs["x"].min() >= 0
        assert inputs["x"].max() < 1000
        seen.append(inputs["x"].tobytes())
    assert len(set(seen)) == 200


def test_an_input_given_twice_comes_at_once_again_and_never_later() -> None:
    pool = [{"x": np.arange(50, dtype=np.float32) + offset} for offset in range(3)]
    seen = [(index, inputs["x"].tobytes()) for index, inputs in Feed(pool, seed=1).twice(100)]
    assert seen[0::2] == seen[1::2]
    assert len(set(seen)) == 100


def test_at_most_a_thousand_elements_of_an_output_are_kept() -> None:
    found = kept(
        {"big": np.arange(5_000_000, dtype=np.float32), "small": np.arange(6).reshape(2, 3), "empty": np.zeros(0)}
    )
    assert len(found["big"]) <= 1024
    assert found["big"][0] == 0
    assert found["small"].tolist() == [0, 1, 2, 3, 4, 5]
    assert found["empty"].size == 0
