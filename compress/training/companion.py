"""What the processes beside the first do under `accelerate launch`: they wait, and take part in each training."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

from compress.load_workload import load_workload
from compress.recipe import load_recipe
from compress.training.processes import Processes
from compress.workload import Workload


def accompany(recipe_path: Path, overrides: Sequence[str], together: Processes) -> None:
    """Take part in what the first process trains, until it ends; the recipe and the workload are read when it starts to.

    Raises:
        EnvironmentFailure: if the first process dies without a word.
    """
    from compress.distill import take_part

    workload: Workload | None = None
    while together.tell() is not None:
        workload = load_workload(load_recipe(recipe_path, overrides)) if workload is None else workload
        task = together.tell()
        if task is None:
            return
        take_part(pickle.loads(task), workload, together)
