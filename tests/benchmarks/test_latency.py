"""The measuring itself, with engines whose time is known: sessions that sleep."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks.accuracy import filled, parts, score
from benchmarks.latency import CONTROL, Protocol, measure
from benchmarks.metrics import Accuracy
from benchmarks.studies.models import conv_inputs, conv_model, engine_on
from benchmarks.timings import MIN_ROUNDS, Timings
from benchmarks.worker import Worker
from export.errors import EnvironmentFailure, InputError, UnsupportedError
from targets import Engine
from tests.benchmarks.sleeper import sleeping_engine

POOL = {1: [{"x": np.full((1, 1), index, np.float32)} for index in range(4)]}
QUICK = Protocol(seconds=0.4, processes=2)


@pytest.mark.timing
def test_a_known_ratio_is_found_and_the_control_covers_one(tmp_path: Path) -> None:
    engines = {"slow": sleeping_engine(tmp_path, 0.006), "fast": sleeping_engine(tmp_path, 0.003)}
    measured = measure(engines, POOL, replace(QUICK, half_width=0.5), control="slow")
    slow, fast, again = (measured[name].timings[1] for name in ("slow", "fast", CONTROL))
    assert len(slow.blocks_s) == len(fast.blocks_s) == len(again.blocks_s)
    assert 2 <= len(slow.blocks_s) <= QUICK.most_processes, "more than two where the control missed 1.0 by chance"
    assert all(len(process) >= MIN_ROUNDS for process in slow.blocks_s)
    ratio = fast.faster_than(slow)
    assert ratio.low <= ratio.value <= ratio.high
    assert 1.6 < ratio.value < 2.1
    assert again.faster_than(slow).value == pytest.approx(1.0, rel=0.2)
    assert slow.median_s == pytest.approx(0.006, rel=0.3)
    assert measured["slow"].footprint.peak_bytes > measured["slow"].footprint.runtime_bytes > 0
    assert len(slow.calls_s) >= 2 * MIN_ROUNDS


def test_measuring_goes_on_until_the_interval_is_narrow_or_the_time_is_up(tmp_path: Path) -> None:
    engines = {"one": sleeping_engine(tmp_path, 0.003), "other": sleeping_engine(tmp_path, 0.004)}
    wide = measure(engines, POOL, replace(QUICK, half_width=1e9))["one"].timings[1]
    narrow = measure(engines, POOL, replace(QUICK, half_width=1e-9))["one"].timings[1]
    assert len(wide.blocks_s) == QUICK.processes
    assert len(narrow.blocks_s) == QUICK.most_processes


def test_no_engine_is_always_started_and_loaded_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, entered = list[str](), list[str]()

    class Noted(Worker):
        def __init__(self, engine: Engine, threads: int = 1, concurrent: bool = False) -> None:
            started.append(engine.scheme)
            super().__init__(engine, threads, concurrent)

        def __enter__(self) -> Noted:
            entered.append(self.engine.scheme)
            super().__enter__()
            return self

    monkeypatch.setattr("benchmarks.latency.Worker", Noted)
    engines = {name: sleeping_engine(tmp_path, seconds) for name, seconds in (("one", 0.003), ("other", 0.004))}
    protocol = replace(QUICK, processes=8, half_width=1e9)
    measure(engines, POOL, protocol, expected={name: {} for name in engines})
    assert entered == started, "loaded in the order of their start"
    firsts = started[::2]
    assert len(firsts) == protocol.processes and set(firsts) == {"0.003", "0.004"}


@pytest.mark.timing
def test_throughput_counts_requests_under_way_at_once(tmp_path: Path) -> None:
    engine = sleeping_engine(tmp_path, 0.005)
    protocol = replace(QUICK, mode="throughput", threads=2)
    timings = measure({"one": engine}, POOL, protocol)["one"].timings[1]
    assert timings.requests == 2
    found = timings.throughput()
    assert found.samples_per_s == pytest.approx(2 / 0.005, rel=0.3)
    assert found.requests == 2
    assert timings.throughput(timings).more_than_fp32 is not None


def timings(blocks: list[list[float]], quiet: list[list[bool]]) -> Timings:
    arrays = tuple(map(np.array, blocks))
    return Timings(1, 1, arrays, tuple(map(np.array, quiet)), np.concatenate(arrays), 1.0)


def test_contended_rounds_are_set_aside_and_counted() -> None:
    one = timings([[1.0, 1.0, 9.0, 1.0]] * 5, [[True, True, False, True]] * 5)
    other = timings([[2.0, 2.0, 2.0, 90.0]] * 5, [[True, True, True, False]] * 5)
    assert one.median_s == 1.0
    assert one.contended == 5
    assert not one.under_load
    ratio = one.faster_than(other)
    assert (ratio.low, ratio.value, ratio.high) == pytest.approx((2.0, 2.0, 2.0))
    latency = one.latency({})
    assert latency.contended == 5
    assert latency.blocks_s.count(9.0) == 5  # set aside, not dropped
    assert latency.distribution_s[-1] == 9.0


def test_where_hardly_a_round_is_quiet_all_count_and_the_report_says_so() -> None:
    one = timings([[1.0, 2.0, 3.0, 4.0]] * 5, [[False, False, False, True]] * 5)
    assert one.under_load
    assert one.median_s == 2.5


def test_peak_memory_is_the_workers_own_and_not_its_parents(tmp_path: Path) -> None:
    held = np.ones(300_000_000, np.uint8)
    with Worker(sleeping_engine(tmp_path, 0.0)) as worker:
        assert 10_000_000 < worker.peak_bytes() < 200_000_000 < held.nbytes


@pytest.mark.timing
@pytest.mark.parametrize("target", ["onnxruntime_mobile", "openvino"])
def test_an_idle_workers_pool_does_not_spin(target: str, tmp_path: Path) -> None:
    engine = engine_on(target, conv_model(tmp_path / "conv.onnx", layers=2), tmp_path / target)
    with Worker(engine, threads=2) as idle, Worker(engine) as busy:
        for worker in (idle, busy):
            worker.prepare(conv_inputs(2))
            worker.block(20)
        before = psutil.Process(idle.pid).cpu_times()
        block = busy.block(300)
        after = psutil.Process(idle.pid).cpu_times()
    spent_s = (after.user + after.system) - (before.user + before.system)
    assert spent_s <= 0.1 * block.wall_s + 0.02


def test_a_runtimes_failure_is_one_sentence(tmp_path: Path) -> None:
    with (
        Worker(sleeping_engine(tmp_path, -1.0)) as worker,
        pytest.raises(UnsupportedError, match=r"sleeper:Sleeper/-1.0: run failed: the kernel refused$"),
    ):
        worker.run({"x": np.zeros((1, 1))})


def test_a_dead_worker_is_one_sentence(tmp_path: Path) -> None:
    with (
        Worker(sleeping_engine(tmp_path, -2.0)) as worker,
        pytest.raises(EnvironmentFailure, match=r"the worker process ended at 'run' with exit code 3: last words$"),
    ):
        worker.run({"x": np.zeros((1, 1))})


def test_an_unknown_runtime_fails_before_loading(tmp_path: Path) -> None:
    engine = Engine("no_such_module:Target", "fp32", tmp_path / "x", (), (), (), 0.0)
    with pytest.raises(UnsupportedError, match=r"start failed: No module named 'no_such_module'"), Worker(engine):
        pass


def test_batches_are_cut_to_the_size_that_an_engine_takes() -> None:
    inputs, target = {"x": np.arange(6).reshape(3, 2)}, np.array([7, 8, 9])
    cut = {
        size: [(part["x"].tolist(), truth.tolist()) for part, truth in parts(inputs, target, size)]
        for size in (1, 2, None)
    }
    assert cut[1] == [([[0, 1]], [7]), ([[2, 3]], [8]), ([[4, 5]], [9])]
    assert cut[2] == [([[0, 1], [2, 3]], [7, 8]), ([[4, 5]], [9])]
    assert cut[None] == [([[0, 1], [2, 3], [4, 5]], [7, 8, 9])]


def test_a_batch_that_is_too_small_is_filled_with_its_last_sample() -> None:
    inputs = {"x": np.arange(4).reshape(2, 2)}
    assert filled(inputs, 4)["x"].tolist() == [[0, 1], [2, 3], [2, 3], [2, 3]]
    assert filled(inputs, 2)["x"] is inputs["x"]
    assert filled(inputs, None)["x"] is inputs["x"]


def test_scores_are_paired_and_other_samples_are_refused() -> None:
    original = np.array([[0, 0], [1, 1], [1, 0], [0, 1]], float)
    changed = np.array([[0, 0], [1, 1], [0, 0], [1, 1]], float)
    found = score(Accuracy(), changed, original, "validation")
    assert found.value == 1.0
    assert found.changed == 0.5
    assert found.difference is not None
    assert found.difference.value == 0.5
    with pytest.raises(InputError, match=r"the validation batches gave other samples on a second pass"):
        score(Accuracy(), changed[::-1], original, "validation")
    with pytest.raises(InputError, match=r"\(4, then 3\)"):
        score(Accuracy(), changed[:3], original, "validation")
