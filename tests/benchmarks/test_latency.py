"""The measuring itself, with engines whose time is known: sessions that sleep."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy import score, singles
from benchmarks.latency import Protocol, measure
from benchmarks.metrics import Accuracy
from benchmarks.worker import Worker
from export.errors import InputError, UnsupportedError
from targets import Engine

SLEEPER = '''
import time
import numpy as np

class Sleeper:
    """A target whose engine is a file that holds the seconds to sleep."""
    name = "sleeper"

    @classmethod
    def runtime_module(cls):
        return "json"

    def load(self, engine, threads):
        return Session(float(engine.path.read_text()))

class Session:
    def __init__(self, seconds):
        self.seconds = seconds

    def run(self, inputs):
        if self.seconds < 0:
            raise RuntimeError("the kernel refused\\nsecond line")
        time.sleep(self.seconds)
        print("a runtime that prints does not break the pipe")
        return {"out": np.full((len(inputs["x"]), 2), self.seconds)}
'''


@pytest.fixture
def sleeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the workers' path with the sleeping target, registered for the workers by sitecustomize."""
    (tmp_path / "sleeper_target.py").write_text(SLEEPER)
    (tmp_path / "sitecustomize.py").write_text(
        'import targets\ntargets.TARGETS["sleeper"] = "sleeper_target:Sleeper"\n'
    )
    root = Path(__file__).parent.parent.parent
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{root}")
    return tmp_path


def engine(folder: Path, seconds: float) -> Engine:
    path = folder / f"{seconds}.txt"
    path.write_text(str(seconds))
    return Engine("sleeper", str(seconds), path, (path,), (), (), build_s=0.0)


def test_a_known_ratio_is_found(sleeper: Path) -> None:
    engines = {"slow": engine(sleeper, 0.006), "fast": engine(sleeper, 0.003)}
    measured = measure(engines, {1: {"x": np.zeros((1, 1))}}, Protocol(seconds=0.8, processes=2))
    slow, fast = measured["slow"].timings[1], measured["fast"].timings[1]
    assert len(slow.blocks_s) == len(fast.blocks_s) == 2
    ratio = fast.faster_than(slow)
    assert ratio.low <= ratio.value <= ratio.high
    assert 1.6 < ratio.value < 2.1
    assert slow.median_s == pytest.approx(0.006, rel=0.3)
    assert measured["slow"].footprint.peak_bytes > measured["slow"].footprint.runtime_bytes > 0


def test_peak_memory_is_the_workers_own_and_not_its_parents(sleeper: Path) -> None:
    held = np.ones(300_000_000, np.uint8)
    with Worker(engine(sleeper, 0.0)) as worker:
        assert 10_000_000 < worker.peak_bytes() < 200_000_000 < held.nbytes


def test_a_runtimes_failure_is_one_sentence(sleeper: Path) -> None:
    with (
        Worker(engine(sleeper, -1.0)) as worker,
        pytest.raises(UnsupportedError, match=r"sleeper/-1.0: run failed: the kernel refused$"),
    ):
        worker.run({"x": np.zeros((1, 1))})


def test_batches_are_cut_into_single_samples() -> None:
    parts = list(singles({"x": np.arange(6).reshape(3, 2)}, np.array([7, 8, 9])))
    assert [(part["x"].tolist(), target.tolist()) for part, target in parts] == [
        ([[0, 1]], [7]),
        ([[2, 3]], [8]),
        ([[4, 5]], [9]),
    ]


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
