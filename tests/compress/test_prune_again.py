from pathlib import Path

import torch

from compress.job import Job
from compress.load_workload import load_workload
from compress.recipe import load_recipe
from compress.run_directory import RunDirectory
from compress.show import Quiet
from compress.speedup import Stopwatch
from compress.stages import original_stage, step_stages
from export.calling import call
from tests.compress.tiny import RECIPE, write_tiny

AGAIN = RECIPE.replace(
    "  - quantize: {calibration_samples: 120}\n",
    "  - prune: {macs_ratio: 1.5, multiple_of: 1, importance: taylor}\n  - distill: {epochs: 1, learning_rate: 0.01}\n",
)


def stages_of(recipe_path: Path, run: Path) -> list[tuple[str, int, torch.Tensor]]:
    recipe = load_recipe(recipe_path)
    workload = load_workload(recipe)
    with RunDirectory(run) as directory:
        job = Job(recipe, workload, directory, Quiet())
        original, _ = original_stage(job)
        stages = [original, *step_stages(original, job, Stopwatch(original, job))]
    return [(each.name, each.size.macs, call(each.model, workload.example_inputs)[0].detach()) for each in stages]


def test_steps_repeat_and_a_later_prune_starts_from_what_the_one_before_left(tmp_path: Path) -> None:
    recipe = write_tiny(tmp_path, AGAIN)
    first, again = (stages_of(recipe, tmp_path / "run") for _ in range(2))
    assert [name for name, _, _ in first] == ["original", "prune", "distill", "prune 2", "distill 2"]
    macs = [macs for _, macs, _ in first]
    assert macs[0] >= 1.5 * macs[1] == 1.5 * macs[2] >= 1.5 * 1.5 * macs[3] == 1.5 * 1.5 * macs[4]
    for (_, _, found), (_, _, read_back) in zip(first, again, strict=True):
        assert torch.equal(found, read_back)
