"""What can be known before work starts: is everything there, can each target compile and run here, how large is the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.render.wording import DIGITS, significant
from compress.bench_inputs import check_model_at_sizes, check_shapes, check_sizes
from compress.load_workload import load_workload
from compress.model_size import ModelSize, measure_size
from compress.recipe import Recipe, load_recipe
from compress.samples import calibration_of, check_calibration, read_split
from compress.workload import Workload
from export.errors import QualityError, UnsupportedError
from targets import Target


@dataclass(frozen=True)
class TargetPlan:
    """A target of the recipe here: `compiles` and `runs` are None where it can, else why it cannot."""

    name: str
    compiles: str | None
    runs: str | None
    schemes: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What a recipe will do here."""

    name: str
    steps: tuple[str, ...]
    targets: tuple[TargetPlan, ...]
    size: ModelSize
    samples: dict[str, int]
    metric: str
    budget: tuple[str, ...]
    notes: tuple[str, ...] = ()


def check(recipe_path: Path, overrides: Sequence[str] = ()) -> Plan:
    """Look at a recipe, its workload and this machine without starting any work.

    Raises:
        InputError: for what is wrong with recipe, workload, checkpoint or data.
    """
    recipe = load_recipe(recipe_path, overrides)
    workload = load_workload(recipe)
    check_sizes(workload, recipe.benchmark)
    check_shapes(workload, recipe)
    check_model_at_sizes(workload, recipe.benchmark)
    assert workload.validation is not None
    evaluation = read_split("evaluation", workload.evaluation)
    samples = {"evaluation": evaluation.samples, "validation": read_split("validation", workload.validation).samples}
    if recipe.quantize is not None:
        samples["calibration"] = check_calibration(
            calibration_of(workload, recipe.quantize.calibration_samples), evaluation
        )
    return Plan(
        name=recipe.name,
        steps=tuple(_in_words(recipe)),
        targets=tuple(_target_plan(target, recipe) for target in recipe.targets),
        size=measure_size(workload.model, workload.example_inputs),
        samples=samples,
        metric=workload.judge.name,
        budget=tuple(f"{key} {value:g}" for key, value in vars(recipe.budget).items() if value is not None),
        notes=workload.notes,
    )


def usable_targets(recipe: Recipe, skip_unavailable: bool) -> tuple[list[Target], list[str]]:
    """The recipe's targets that can compile here, and a warning for each that is left out.

    Raises:
        UnsupportedError: if one cannot compile here and `skip_unavailable` is False, or if none is left.
    """
    usable: list[Target] = []
    skipped: list[str] = []
    for target in recipe.targets:
        reason = target.unavailable()
        if reason is None:
            usable.append(target)
        elif skip_unavailable:
            skipped.append(f"{target.name}: left out: {reason}")
        else:
            raise UnsupportedError(f"{target.name}: {reason}; or leave it out with --skip-unavailable")
    if not usable:
        raise UnsupportedError("no target of the recipe can be compiled here: " + "; ".join(skipped))
    return usable, skipped


def check_baseline(workload: Workload, rows: np.ndarray) -> None:
    """Stop before any work if the original does not score what the workload says it does.

    Raises:
        QualityError: with the stated and the found value.
    """
    found = workload.judge.value(rows)
    if workload.baseline is None or abs(found - workload.baseline) <= workload.baseline_tolerance + 1e-9:
        return
    stated, scored = significant(workload.baseline, DIGITS), significant(found, DIGITS)
    raise QualityError(
        f"baseline: the workload states {workload.judge.name} {stated} within {workload.baseline_tolerance:g}, "
        f"the original scores {scored} on {len(rows):,} evaluation samples. Usual causes: other preprocessing, labels in "
        "another order, another checkpoint. Mend that, or the stated value, before compressing"
    )


def _target_plan(target: Target, recipe: Recipe) -> TargetPlan:
    reason = target.unavailable()
    schemes = (
        ()
        if reason
        else tuple(
            scheme.name for scheme in target.schemes() if recipe.quantize is not None or scheme.quantizer == "none"
        )
    )
    return TargetPlan(target.name, reason, reason or target.cannot_run(), schemes)


def _in_words(recipe: Recipe) -> list[str]:
    """Each step with the fields that the recipe sets."""
    words = []
    for entry in recipe.plain["steps"]:
        [(name, fields)] = entry.items() if isinstance(entry, dict) else [(entry, None)]
        told = ", ".join(f"{key} {value}" for key, value in (fields or {}).items())
        words.append(f"{name}: {told}" if told else name)
    return words
