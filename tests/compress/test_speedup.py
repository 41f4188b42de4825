from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from compress.job import Job
from compress.load_workload import load_workload
from compress.quantize import Quantize
from compress.recipe import load_recipe
from compress.run_directory import RunDirectory
from compress.show import Quiet
from compress.speedup import Stopwatch
from compress.stages import original_stage
from export.errors import UnsupportedError
from tests.compress.tiny import RECIPE, write_tiny

pytestmark = pytest.mark.timing


def test_a_model_is_timed_beside_the_original_and_other_targets_are_refused(tmp_path: Path) -> None:
    recipe = load_recipe(write_tiny(tmp_path, RECIPE))
    workload = load_workload(recipe)
    with RunDirectory(tmp_path / "run") as directory:
        job = Job(recipe, workload, directory, Quiet())
        original, _ = original_stage(job)
        stopwatch = Stopwatch(original, job)
        assert 0.2 < stopwatch.measure(workload.model, None, "fp32") < 5
        assert 0.2 < stopwatch.measure(workload.model, None, "int8") < 10
        assert stopwatch.time(workload.model, None, "int8").scheme.name == "int8"
        timed = stopwatch.time(workload.model, None, "fp32")
        assert (timed.target.name, timed.threads) == ("onnxruntime_mobile", 1)
        assert timed.inputs["image"].shape == (1, 1, 12, 12) and timed.profile.call_s > 0
        with pytest.raises(
            UnsupportedError, match=r"cannot measure a speed-up on openvino here; runs here: onnxruntime_mobile"
        ):
            stopwatch.measure(workload.model, "openvino", "fp32")
        none = replace(job, recipe=replace(recipe, quantize=Quantize(schemes=("int8-weights",))))
        with pytest.raises(UnsupportedError, match="prune: precision: int8: onnxruntime_mobile tries no INT8 scheme"):
            Stopwatch(original, none).measure(workload.model, None, "int8")
