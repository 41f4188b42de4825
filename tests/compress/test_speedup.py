from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.timings import Timings
from compress.job import Job
from compress.load_workload import load_workload
from compress.quantize import Quantize
from compress.recipe import load_recipe
from compress.run_directory import RunDirectory
from compress.show import Quiet
from compress.speedup import Stopwatch, faster
from compress.stages import export_model, export_part, original_stage
from export.errors import UnsupportedError
from export.model import OnnxModel
from tests.compress.tiny import RECIPE, write_tiny
from tests.compress.tiny_writers import write_writer


def timings(call_s: float, slice_s: float | None) -> Timings:
    """Twenty calls in each of four rounds of five processes; where another process takes slices, it takes them from all
    calls that last more than 2 ms but for two in a round, and from two in a round of the others."""
    calls = np.full((5, 4, 20), call_s)
    if slice_s is not None:
        calls[:, :, : 18 if call_s > 2e-3 else 2] += slice_s
    quiet = np.full((5, 4), slice_s is None)
    cpu_s = np.full((5, 4), call_s)
    return Timings(1, 1, tuple(np.median(calls, axis=2)), tuple(quiet), calls.ravel(), 1.0, cpu_s=tuple(cpu_s))


@pytest.mark.parametrize("slice_s", [None, 8e-3])
def test_another_process_does_not_make_short_calls_look_fast(slice_s: float | None) -> None:
    """As it was found: 2.5 ms in FP32 and 1 ms in INT8, beside a process with slices of 8 ms."""
    original, candidate = timings(2.5e-3, slice_s), timings(1e-3, slice_s)
    assert faster(candidate, original) == pytest.approx(2.5, rel=1e-6)
    if slice_s is not None:
        assert candidate.faster_than(original).value > 8


def test_a_model_is_timed_beside_the_original_and_other_targets_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(write_tiny(tmp_path, RECIPE))
    workload = load_workload(recipe)
    with RunDirectory(tmp_path / "run") as directory:
        job = Job(recipe, workload, directory, Quiet())
        original, _ = original_stage(job)
        stopwatch = Stopwatch(original, job)
        _export_once(monkeypatch, tmp_path)
        assert 0.2 < stopwatch.measure(workload.model, None, "fp32") < 5
        assert 0.2 < stopwatch.measure(workload.model, None, "int8") < 10
        assert stopwatch.time(workload.model, None, "int8").scheme.name == "int8"
        timed = stopwatch.time(workload.model, None, "fp32")
        assert (timed.target.name, timed.threads) == ("onnxruntime_mobile", 1)
        [call] = timed.calls
        assert call.inputs["image"].shape == (1, 1, 12, 12) and call.profile.call_s > 0
        assert call.module is workload.model and call.times == 1
        with pytest.raises(
            UnsupportedError, match=r"cannot measure a speed-up on openvino here; runs here: onnxruntime_mobile"
        ):
            stopwatch.measure(workload.model, "openvino", "fp32")
        none = replace(job, recipe=replace(recipe, quantize=Quantize(schemes=("int8-weights",))))
        with pytest.raises(UnsupportedError, match="prune: precision: int8: onnxruntime_mobile tries no INT8 scheme"):
            Stopwatch(original, none).measure(workload.model, None, "int8")


@pytest.mark.timing
def test_a_model_that_writes_is_timed_by_whole_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the original, in parts like it; its layers as they are called in an answer of six tokens."""
    pytest.importorskip("transformers", reason="transformers is not installed: pip install edge-compress[nlp]")
    written = write_writer(tmp_path, "gpt", "onnxruntime_mobile", "int8-dynamic", arguments="{layers: 1}")
    recipe = load_recipe(written, ["benchmark.processes=1"])
    workload = load_workload(recipe)
    with RunDirectory(tmp_path / "run") as directory:
        job = Job(recipe, workload, directory, Quiet())
        original, _ = original_stage(job)
        stopwatch = Stopwatch(original, job)
        _export_once(monkeypatch, tmp_path / "run" / "stages" / "0-original")
        # The same model on both sides: the plain forward, a single call, would come out several times as fast as an answer.
        assert 0.6 < stopwatch.measure(workload.model, None, "fp32") < 1.6
        assert 0.2 < stopwatch.measure(workload.model, None, "int8") < 4
        reads, step = stopwatch.time(workload.model, None, "fp32").calls
        assert (reads.times, step.times) == (1, 5)
        assert (reads.inputs["input_ids"].shape, step.inputs["input_ids"].shape) == ((1, 12), (1, 1))
        assert step.inputs["past_key.0"].shape == (1, 4, 15, 8)  # heads, prompt and half of the answer, width
        assert min(reads.profile.call_s, step.profile.call_s) > 0


def _export_once(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """What was exported into `folder` is copied the next time: for tests in which the model is the same."""

    def once(export: Callable[[Any, Path, Job], OnnxModel]) -> Callable[[Any, Path, Job], OnnxModel]:
        def exported(model: Any, path: Path, job: Job) -> OnnxModel:
            kept = folder / path.name
            if not kept.exists():
                export(model, kept, job)
            return OnnxModel.read(Path(shutil.copy(kept, path)))

        return exported

    for name, export in (("export_part", export_part), ("export_model", export_model)):
        monkeypatch.setattr(f"compress.speedup.{name}", once(export))
