"""What runs an engine: sessions alone, side by side and on several threads answer alike; a profile tells where the time goes."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest

from benchmarks.machine import usable_cores
from compress.contract.cases import Built, files_under, skip_unless_it_runs
from export.errors import UnsupportedError
from targets import Arrays, Session, Target


def test_concurrent_sessions_answer_as_one_does_also_all_at_once(
    name: str, network: str, target: Target, build: Callable[..., Built]
) -> None:
    if usable_cores() < 2:
        pytest.skip("one core: a runtime opens one session for it")
    built = build(target, network)
    skip_unless_it_runs(target)
    batches = [built.batch(2, seed=seed) for seed in range(6)]
    with target.load(built.engine, threads=1) as session:
        expected = [session.run(batch)["logits"] for batch in batches]
    check_concurrent(target.load_concurrent(built.engine, threads=2), batches, expected)


def check_concurrent(sessions: Sequence[Session], batches: list[Arrays], expected: list[np.ndarray]) -> None:
    """Each session alone, then all of them at once in threads, keep their answers while later ones are computed."""
    assert len(sessions) >= 2, f"load_concurrent gave {len(sessions)} sessions for 2 threads"
    together = threading.Barrier(len(sessions))

    def many(session: Session) -> list[np.ndarray]:
        together.wait(timeout=60)
        return [session.run(batch)["logits"] for _ in range(30) for batch in batches]

    with ExitStack() as stack, ThreadPoolExecutor(len(sessions)) as pool:
        opened = [stack.enter_context(session) for session in sessions]
        alone = [[session.run(batch)["logits"] for batch in batches] for session in opened]
        at_once = list(pool.map(many, opened))
    for answers in (*alone, *at_once):
        for found, wanted in zip(answers, expected * (len(answers) // len(expected)), strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-5)
    kept = [answer for answers in alone for answer in answers]
    assert not any(np.shares_memory(one, other) for one, other in itertools.combinations(kept, 2)), (
        "two answers lie in the same memory: a session must not hand out a buffer that it writes again"
    )


def test_several_threads_answer_as_one_does(name: str, target: Target, build: Callable[..., Built]) -> None:
    built = build(target)
    skip_unless_it_runs(target)
    batch, answers = built.batch(3), list[np.ndarray]()
    for threads in (1, 2):
        with target.load(built.engine, threads) as session:
            answers.append(session.run(batch)["logits"])
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-5, err_msg=f"{name}: on 2 threads and on 1")


def test_a_profile_holds_the_operators_of_one_call_or_is_refused(
    name: str, target: Target, build: Callable[..., Built]
) -> None:
    built = build(target)
    before = files_under(built.folder.parent)
    try:
        profile = target.profile(built.engine, built.batch(1), threads=1, runs=4)
    except UnsupportedError as error:
        assert str(error).startswith(name), f"{name}: the refusal must begin with the target's name, found: {error}"
        return
    assert profile.call_s > 0
    assert profile.layers, f"{name}: an empty profile; raise UnsupportedError where the runtime does not tell"
    assert all(layer.time_s >= 0 and layer.operator for layer in profile.layers)
    assert files_under(built.folder.parent) == before, f"{name}: profiling left files behind"
