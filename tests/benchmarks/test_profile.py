"""The profile through a worker process: what the runtime tells, and nothing where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.profile import layers_of, profile_of
from benchmarks.worker import Worker
from export.errors import UnsupportedError
from targets import FP32
from targets.onnxruntime_mobile import OnnxRuntimeMobile
from tests.targets import networks


def test_a_worker_profiles_its_engine(tmp_path: Path) -> None:
    engine = OnnxRuntimeMobile().compile(networks.convolutional(tmp_path / "in.onnx"), FP32, tmp_path)
    profile = profile_of(engine, networks.images(2), threads=1, runs=5)
    assert [layer.operator for layer in profile.layers if layer.operator == "Conv"] == ["Conv", "Conv"]
    assert profile.call_s > 0
    assert [layer.name for layer in layers_of(engine, networks.images(2), threads=1)] == [
        layer.name for layer in profile.layers
    ]


def test_a_runtime_that_does_not_tell_leaves_the_row_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = OnnxRuntimeMobile().compile(networks.convolutional(tmp_path / "in.onnx"), FP32, tmp_path)

    def silent(*_: object) -> None:
        raise UnsupportedError("no profiler")

    monkeypatch.setattr(Worker, "profile", silent)
    assert layers_of(engine, networks.images(2), threads=1) == ()
    with pytest.raises(UnsupportedError, match="no profiler"):
        profile_of(engine, networks.images(2), threads=1)


def test_a_target_that_cannot_fill_a_cache_first_says_so(tmp_path: Path) -> None:
    engine = OnnxRuntimeMobile().compile(networks.convolutional(tmp_path / "in.onnx"), FP32, tmp_path)
    with pytest.raises(
        UnsupportedError,
        match=r"onnxruntime_mobile: .* cannot profile a call behind 3 tokens: it has no profile_behind",
    ):
        profile_of(engine, networks.images(2), threads=1, past=3)
