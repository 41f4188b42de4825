"""The stages of a run, apart from what their steps do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from compress.generation import Generation, Writing
from compress.generation.parts import Part
from compress.job import Job
from compress.load_workload import load_workload
from compress.prune import Prune
from compress.recipe import load_recipe
from compress.run_directory import RunDirectory
from compress.show import Quiet
from compress.speedup import Stopwatch
from compress.stages import _proven, original_stage, step_stages
from compress.step import StepContext, StepResult
from compress.workload import Workload
from export.errors import UnsupportedError
from export.parity import Parity
from tests.compress.tiny import RECIPE, write_tiny

PRUNED = RECIPE.replace("  - distill: {epochs: 1, learning_rate: 0.01}\n", "").replace(
    "  - quantize: {calibration_samples: 120}\n", ""
)


@pytest.mark.parametrize("writes", [False, True])
def test_a_teacher_answers_through_the_whole_original_which_is_exported_for_it_alone(
    writes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stages of a model that writes hold its parts: a step that asks for no teacher leaves the whole forward unexported."""
    asked: list[Path] = []

    def ask(self: Prune, model: torch.nn.Module, context: StepContext) -> StepResult:
        assert context.teacher_onnx is not None
        asked.extend(context.teacher_onnx() for _ in range(2))
        return StepResult(model)

    recipe = load_recipe(write_tiny(tmp_path, PRUNED))
    workload = load_workload(recipe)
    with RunDirectory(tmp_path / "run") as directory:
        job = Job(recipe, workload, directory, Quiet())
        original, _ = original_stage(job)
        if writes:
            job = replace(job, workload=replace(workload, writing=in_one_part(workload)))
        whole = tmp_path / "run/stages/0-original-whole/model.onnx"
        assert not whole.exists()
        monkeypatch.setattr(Prune, "apply", ask)
        monkeypatch.setattr(Prune, "restore", lambda self, model, folder: model)
        assert [stage.name for stage in step_stages(original, job, Stopwatch(original, job))] == ["prune"]
    assert asked == 2 * [whole if writes else tmp_path / "run/stages/0-original/model.onnx"]
    inputs, _ = next(iter(workload.evaluation))
    answer = onnxruntime.InferenceSession(asked[0]).run(None, {"image": inputs["image"].numpy()})[0]
    with torch.no_grad():
        np.testing.assert_allclose(answer, workload.model(**inputs).numpy(), atol=1e-4)


def test_a_whole_that_cannot_be_exported_leaves_its_teacher_to_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the whole ships: its parts do, and those are exported."""
    recipe = load_recipe(write_tiny(tmp_path, RECIPE.replace("  - prune: {macs_ratio: 1.5, multiple_of: 1}\n", "")))
    workload = load_workload(recipe)
    with RunDirectory(tmp_path / "run") as directory:
        job = Job(recipe, workload, directory, Quiet())
        original, _ = original_stage(job)
        job = replace(job, workload=replace(workload, writing=in_one_part(workload)))

        def proven(part: Part, path: Path, job: Job) -> Parity:
            if "0-original-whole" in str(path):
                raise UnsupportedError("export: the operator 'aten.mixed' has no ONNX form")
            return _proven(part, path, job)

        monkeypatch.setattr("compress.stages._proven", lambda part, path, job, _=None: proven(part, path, job))
        [distilled] = step_stages(original, job, Stopwatch(original, job))
        assert not (tmp_path / "run/stages/0-original-whole").exists()
    [warning] = distilled.warnings
    assert warning == (
        "the teacher answers in torch, which takes longer: the original as a whole cannot be taken as ONNX "
        "(export: the operator 'aten.mixed' has no ONNX form)"
    )


def in_one_part(workload: Workload) -> Writing:
    """What makes the model one that writes, as far as its stages are concerned."""

    def parts(model: torch.nn.Module) -> dict[str, Part]:
        return {"decoder": Part(model, workload.example_inputs, workload.dynamic_axes, workload.output_names)}

    return Writing(parts, Generation(end=1, padding=0, new_tokens=1))
