"""The journey of one run, from the recipe to the report. Start reading here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import yaml

from benchmarks import samples_file
from benchmarks.accuracy import score
from benchmarks.latency import Measured
from benchmarks.machine import library_versions, machine
from benchmarks.render.html import report_html
from benchmarks.render.markdown import report_markdown
from benchmarks.render.wording import DIGITS, significant
from benchmarks.report import Report, Row, write_text_whole
from compress import __version__, step
from compress.bench_inputs import check_model_at_sizes, check_shapes, check_sizes
from compress.checkpoint import weights_hash
from compress.deploy.one_target import deploy, units_of
from compress.evaluate import evaluate
from compress.gallery import gallery
from compress.generation.in_torch import evaluate_written
from compress.job import Job
from compress.load_workload import load_workload
from compress.measuring import PROMPT, Bench
from compress.pack.kept import keep
from compress.preflight import check_baseline, usable_targets
from compress.recipe import Recipe, load_recipe
from compress.run_directory import RunDirectory, sha256_of
from compress.samples import (
    FEW_SAMPLES,
    Split,
    calibration_of,
    check_calibration,
    first_pass,
    read_split,
    training_fingerprint,
)
from compress.show import Quiet, Show
from compress.speedup import Stopwatch
from compress.stages import fp32_engine, original_stage, step_stages
from compress.workload import Workload
from targets import REGISTRY, Target
from targets.isa import architecture, instruction_sets, slow_int8


def run(
    recipe_path: Path | str,
    out: Path | str | None = None,
    overrides: Sequence[str] = (),
    *,
    skip_unavailable: bool = False,
    show: Show | None = None,
    command: str = "",
) -> Report:
    """Take a model through a recipe: prune, distill, quantize, export, compile for each target, measure.

    Args:
        recipe_path: the YAML recipe.
        out: the run's folder; `runs/<name>` by default. A folder of an earlier run is continued: finished parts are reused.
        overrides: assignments such as "steps.0.prune.speedup=2.5".
        skip_unavailable: leave out targets that cannot be compiled here, with a warning, instead of stopping.
        show: where progress is shown; nowhere by default.
        command: what the report gives as the command that reproduces it.

    Returns:
        The report, which is also written to the run's folder as report.json, report.md and report.html.

    Raises:
        CompressError: one of its subclasses, with one sentence for the user and an exit code.
    """
    started, show = time.monotonic(), show or Quiet()
    recipe = load_recipe(Path(recipe_path), overrides)
    targets, skipped = usable_targets(recipe, skip_unavailable)
    workload = load_workload(recipe)
    check_sizes(workload, recipe.benchmark)
    check_shapes(workload, recipe)
    check_model_at_sizes(workload, recipe.benchmark)
    with RunDirectory(Path(out) if out is not None else Path("runs") / recipe.name) as directory:
        show.expect(2 + len(recipe.steps) + sum(units_of(target, recipe) for target in targets))
        bench = _prepare(Job(recipe, workload, directory, show), targets)
        deployments = [deploy(target, bench) for target in targets]
        timed = [deployment.torch for deployment in deployments if deployment.torch is not None]
        torch_row = _torch_row(bench, timed[0] if timed else bench.time({"torch": bench.reference})["torch"])
        shipped = {each.target: each.shipped for each in deployments if each.shipped is not None}
        report = Report(
            name=recipe.name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            toolkit_version=__version__,
            recipe=recipe.plain,
            seed=recipe.seed,
            command=command or f"compress run {Path(recipe_path).name}",
            metric=workload.judge.name,
            higher_is_better=workload.judge.higher_is_better,
            budget={key: value for key, value in vars(recipe.budget).items() if value is not None},
            stages=tuple(stage.for_report() for stage in bench.stages),
            rows=(torch_row, *(row for deployment in deployments for row in deployment.rows)),
            verdicts=tuple(deployment.verdict for deployment in deployments),
            machine=machine(),
            versions=library_versions() | _others(recipe, targets),
            hashes=_hashes(recipe, bench),
            warnings=(
                *skipped,
                *workload.notes,
                *_warnings(bench),
                *(told for each in deployments for told in each.warnings),
            ),
            duration_s=time.monotonic() - started,
            half_width_limit=recipe.benchmark.half_width_limit,
            gallery=gallery(workload, bench.evaluation_rows, shipped),
        )
        keep(workload, bench.validation, directory.path, bench.sizes.get(PROMPT))
        _write(report, directory, {"torch": bench.evaluation_rows, **shipped})
    return report


def exit_code(report: Report) -> int:
    """0 where every target that ran keeps the budget, else 5."""
    return 0 if all(verdict.decision in ("accepted", "not run here") for verdict in report.verdicts) else 5


def _prepare(job: Job, targets: Sequence[Target]) -> Bench:
    """Everything before the targets: the data, the original's own answers, and the model after each step."""
    recipe, workload, show = job.recipe, job.workload, job.show
    with show.unit("measuring the original in torch"):
        evaluation, validation = _splits(workload)
        calibration = calibration_of(workload, recipe.quantize.calibration_samples if recipe.quantize else 0)
        samples = check_calibration(calibration, evaluation) if recipe.quantize else 0
        evaluation_rows = _original_rows(workload, evaluation, show)
        validation_rows = _original_rows(workload, validation, show)
        check_baseline(workload, evaluation_rows)
        value = workload.judge.value(evaluation_rows)
        show.say(
            f"original: {workload.judge.name} {significant(value, DIGITS)} on {evaluation.samples:,} evaluation samples"
        )
    with show.unit("exporting the original"):
        original, reference = original_stage(job)
        for target in targets:
            fp32_engine(0, original, target, job)  # a refused operator shows before hours of training
    stages = [original, *step_stages(original, job, Stopwatch(original, job))]
    return Bench(
        job=job,
        stages=stages,
        reference=reference,
        validation=validation,
        evaluation=evaluation,
        validation_rows=validation_rows,
        evaluation_rows=evaluation_rows,
        calibration=calibration,
        calibration_key=f"{training_fingerprint(calibration.batches)} {samples}",
        calibration_samples=samples,
    )


def _splits(workload: Workload) -> tuple[Split, Split]:
    """Evaluation and validation: of prompts, where the metric of what ships judges the answers to them."""
    holder = workload.writing if workload.writing is not None and workload.writing.metric is not None else workload
    assert holder.evaluation is not None and holder.validation is not None, "every workload is given a validation set"
    return read_split("evaluation", holder.evaluation), read_split("validation", holder.validation)


def _original_rows(workload: Workload, split: Split, show: Show) -> np.ndarray:
    """The metric's statistics of the original in torch: of its forward, or of what it writes."""
    batches = show.track(first_pass(split.batches), f"original in torch, {split.name}", split.number_of_batches)
    if workload.writing is not None and workload.writing.metric is not None:
        return evaluate_written(workload.model, workload.writing, batches, workload.writing.metric)
    return evaluate(workload.model, batches, workload.metric)


def _torch_row(bench: Bench, measured: Measured) -> Row:
    """The original in torch: what every difference and the second ratio of each row refer to."""
    metric, sizes = bench.job.workload.judge, bench.sizes
    return Row(
        target="torch",
        stage="original",
        scheme="fp32",
        role="reference",
        status="measured",
        size_bytes=bench.stages[0].size.size_bytes,
        validation=score(metric, bench.validation_rows, None, "validation"),
        evaluation=score(metric, bench.evaluation_rows, None, "evaluation"),
        latency=tuple(timings.latency(sizes) for timings in measured.timings.values()),
        footprint=measured.footprint,
        findings=measured.findings,
    )


def _hashes(recipe: Recipe, bench: Bench) -> dict[str, str]:
    return {
        "recipe": sha256_of(recipe.path),
        "original weights": weights_hash(bench.job.workload.model),
        "final weights": weights_hash(bench.final.model),
        "training data": training_fingerprint(bench.job.workload.train),
        "validation data": bench.validation.fingerprint,
        "evaluation data": bench.evaluation.fingerprint,
    }


def _others(recipe: Recipe, targets: Sequence[Target]) -> dict[str, str]:
    """Versions of the distributions that steps and targets of the recipe come from, besides this toolkit."""
    steps = [step.REGISTRY.registered(each.kind) for each in recipe.steps]
    found = [*steps, *(REGISTRY.registered(target.name) for target in targets)]
    return {each.distribution: each.version for each in found if each is not None}


def _warnings(bench: Bench) -> tuple[str, ...]:
    told = [warning for stage in bench.stages for warning in stage.warnings]
    if bench.job.recipe.quantize is not None and bench.calibration_samples < FEW_SAMPLES:
        told.append(
            f"calibration: {bench.calibration_samples} samples; below {FEW_SAMPLES} the INT8 ranges depend on luck"
        )
    bound = slow_int8(instruction_sets(), architecture())
    if bench.job.recipe.quantize is not None and bound is not None:
        told.append(bound)
    shared = len(bench.validation.digests & bench.evaluation.digests)
    if shared:
        told.append(
            f"validation: {shared} of its samples are evaluation samples too; choices saw what they are judged by"
        )
    return tuple(told)


def _write(report: Report, directory: RunDirectory, rows: Mapping[str, np.ndarray]) -> None:
    """The recipe as it ran, the samples behind the scores and the report in its three forms, each written whole."""
    recipe = yaml.safe_dump(dict(report.recipe), sort_keys=False, allow_unicode=True)
    write_text_whole(directory.path / "recipe.yaml", recipe)
    samples_file.write_samples(
        directory.path / samples_file.FILE, {samples_file.key_of(target): found for target, found in rows.items()}
    )
    write_text_whole(directory.path / "report.md", report_markdown(report))
    write_text_whole(directory.path / "report.html", report_html(report))
    report.write(directory.path / "report.json")
    directory.drop_leftovers()
    directory.drop_scratch()
