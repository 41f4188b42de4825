"""Job: the four things that every part of one run works with."""

from __future__ import annotations

from dataclasses import dataclass

from compress.recipe import Recipe
from compress.run_directory import RunDirectory
from compress.show import Show
from compress.workload import Workload


@dataclass(frozen=True)
class Job:
    """A checked recipe, the workload that it names, the folder that is held for the run, and where progress is shown."""

    recipe: Recipe
    workload: Workload
    directory: RunDirectory
    show: Show
