"""A student of the workload's own: distilled first, rebuilt from its stage, and refused behind a prune step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compress.checkpoint import weights_hash
from compress.job import Job
from compress.load_workload import load_workload
from compress.recipe import load_recipe
from compress.run_directory import RunDirectory
from compress.show import Quiet
from compress.stages import original_stage, step_stages
from export.errors import InputError
from tests.compress.tiny import RECIPE, WORKLOAD

STUDENT = """

def with_student(outputs=2):
    from dataclasses import replace

    class Small(nn.Sequential):
        def forward(self, image):
            return super().forward(image)

    torch.manual_seed(3)
    small = Small(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, outputs),
    )
    return replace(tiny(), student=small)
"""


def recipe(folder: Path, steps: str, arguments: str = "{}") -> Path:
    (folder / "workload.py").write_text(WORKLOAD + STUDENT)
    begin, end = RECIPE.index("steps:"), RECIPE.index("targets:")
    text = RECIPE[:begin] + f"steps: {steps}\n" + RECIPE[end:]
    path = folder / "recipe.yaml"
    path.write_text(text.replace(":tiny", ":with_student").replace("arguments: {}", f"arguments: {arguments}"))
    return path


def test_the_student_is_distilled_kept_and_read_back(tmp_path: Path) -> None:
    read = load_recipe(recipe(tmp_path, "[{distill: {epochs: 2, hints: features}}]"))
    work = load_workload(read)
    assert work.student is not None
    before = weights_hash(work.student)
    with RunDirectory(tmp_path / "run") as directory:
        job = Job(read, work, directory, Quiet())
        original, _ = original_stage(job)
        [made] = step_stages(original, job, lambda model, target: 1.0)
        [found] = step_stages(original, job, lambda model, target: 1.0)
    assert made.size.parameters < original.size.parameters / 10
    assert made.model[0].weight.shape == (4, 1, 3, 3)
    assert weights_hash(found.model) == weights_hash(made.model) != before, "trained once"
    key = json.loads((tmp_path / "run/stages/1-distill/key.json").read_text())
    assert key["key"]["before"] != original.digest, "the student's weights are part of the key"


@pytest.mark.parametrize(
    ("steps", "found"), [("[{prune: {macs_ratio: 2}}, distill]", "prune"), ("[]", "none in torch")]
)
def test_a_student_behind_another_step(steps: str, found: str, tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=f"brings a student of its own, so the first step must be distill, found {found}; prune it after",
    ):
        load_workload(load_recipe(recipe(tmp_path, steps)))


def test_a_student_with_other_outputs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the student's outputs have shapes \(2, 3\), the model's \(2, 2\)"):
        load_workload(load_recipe(recipe(tmp_path, "[distill]", "{outputs: 3}")))
