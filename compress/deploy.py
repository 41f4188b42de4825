"""The half of a run that each target repeats: compile, try every scheme, choose on validation data, measure afresh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from benchmarks.accuracy import score, statistics_of
from benchmarks.latency import Measured, Protocol, measure
from benchmarks.report import Latency, Role, Row, Score, Verdict
from compress.bench_inputs import timing_inputs
from compress.engines import compiled, shipped_files
from compress.job import Job
from compress.recipe import Recipe
from compress.samples import Calibration, Split
from compress.stages import ModelStage, fp32_engine
from compress.verdict import Trial, choose, drop_of, judge
from export.errors import CompressError, QualityError, UnsupportedError
from targets import FP32, Engine, Scheme, Target


@dataclass(frozen=True)
class Bench:
    """What every target's deployment works from; the same for all of them.

    Args:
        stages: the original first, the final model last.
        reference: the engine of the original in torch.
        validation_rows, evaluation_rows: the metric's per-sample statistics of the original in torch.
        calibration_key: stands for the calibration samples.
    """

    job: Job
    stages: Sequence[ModelStage]
    reference: Engine
    validation: Split
    evaluation: Split
    validation_rows: np.ndarray
    evaluation_rows: np.ndarray
    calibration: Calibration
    calibration_key: str
    calibration_samples: int
    cores: int
    scores: dict[tuple[Path, str], Score] = field(default_factory=dict)
    """Scores already measured, by engine and split: an engine's answers do not change."""

    @property
    def final(self) -> ModelStage:
        return self.stages[-1]


@dataclass(frozen=True)
class Deployment:
    """A target's rows and verdict; `torch` is the original in torch, timed beside this target's engines."""

    rows: tuple[Row, ...]
    verdict: Verdict
    torch: Measured | None = None


@dataclass(frozen=True)
class _Candidate:
    scheme: Scheme
    engine: Engine


def deploy(target: Target, bench: Bench) -> Deployment:
    """Bring the final model to one target; every figure comes from the compiled artifacts."""
    schemes = _offered(target, bench)
    absent = target.cannot_run()
    fp32 = _stage_engines(target, bench.stages if absent is None else _ends(bench.stages), bench)
    candidates, failures = _compile_candidates(target, schemes, fp32[bench.final.name], bench)
    if absent is not None:
        return _not_run(target, absent, fp32, candidates, failures, bench)
    trials, tried_rows, failed = _try(target, candidates, fp32, bench)
    chosen, why = choose(trials, FP32.name, bench.job.recipe.budget)
    bench.job.show.say(f"{target.name}: {chosen} ships: {why}")
    best = next(candidate for candidate in candidates if candidate.scheme.name == chosen)
    stage_rows, chosen_row, torch = _measure_afresh(target, best, fp32, bench)
    rows = (*stage_rows, *tried_rows, *failed, *failures, replace(chosen_row, reason=why))
    verdict = judge(rows[-1], rows[0], bench.job.recipe.budget, bench.job.workload.metric.higher_is_better)
    return Deployment(rows, verdict, torch)


def units_of(target: Target, recipe: Recipe) -> int:
    """Units of work that `deploy` will show: one to compile and, where the target runs here, two to measure."""
    return 1 if target.cannot_run() else 3


def _offered(target: Target, bench: Bench) -> list[Scheme]:
    quantize = bench.job.recipe.quantize
    offered = [
        scheme for scheme in target.schemes(bench.final.onnx) if quantize is not None or scheme.quantizer == "none"
    ]
    if quantize is None or not quantize.schemes:
        return offered
    return [scheme for scheme in offered if scheme.name in quantize.schemes or scheme == FP32]


def _ends(stages: Sequence[ModelStage]) -> Sequence[ModelStage]:
    return [stages[0], stages[-1]] if len(stages) > 1 else stages


def _stage_engines(target: Target, stages: Sequence[ModelStage], bench: Bench) -> dict[str, Engine]:
    """Each of `stages` on this target in FP32, by the stage's name."""
    with bench.job.show.unit(f"{target.name}: compiling"):
        return {stage.name: fp32_engine(bench.stages.index(stage), stage, target, bench.job) for stage in stages}


def _compile_candidates(
    target: Target, schemes: Sequence[Scheme], fp32: Engine, bench: Bench
) -> tuple[list[_Candidate], list[Row]]:
    """An engine for each scheme of the final model, and a row for each that could not be built."""
    candidates, failures = [], []
    for scheme in bench.job.show.track(schemes, f"{target.name}: quantizing and compiling", len(schemes)):
        if scheme == FP32:
            candidates.append(_Candidate(scheme, fp32))
            continue
        try:
            engine = compiled(
                bench.job.directory,
                f"artifacts/{target.name}/{scheme.name}",
                bench.final.onnx,
                target,
                scheme,
                bench.calibration,
                bench.calibration_key,
            )
        except (UnsupportedError, QualityError) as error:
            failures.append(_failed(target, scheme, error, bench))
        else:
            candidates.append(_Candidate(scheme, engine))
    return candidates, failures


def _try(
    target: Target, candidates: list[_Candidate], fp32: Mapping[str, Engine], bench: Bench
) -> tuple[list[Trial], list[Row], list[Row]]:
    """Accuracy on validation data and paired latency of every candidate; failures become rows of their own."""
    scores: dict[str, Score] = {}
    failed: list[Row] = []
    with bench.job.show.unit(f"{target.name}: trying {len(candidates)} schemes"):
        for candidate in candidates:
            try:
                scores[candidate.scheme.name] = _score(candidate.engine, candidate.scheme, bench.validation, bench)
            except CompressError as error:
                if candidate.scheme == FP32:
                    raise
                failed.append(_failed(target, candidate.scheme, error, bench))
        running = [candidate for candidate in candidates if candidate.scheme.name in scores]
        original = {"original": fp32["original"]} if len(bench.stages) > 1 else {}
        measured = _measure(
            {"torch": bench.reference} | original | {each.scheme.name: each.engine for each in running},
            bench,
            processes=1,
        )
    baseline = measured.get("original", measured[FP32.name])
    size = bench.job.recipe.benchmark.batch_sizes[0]
    trials, rows = [], []
    for candidate in running:
        name = candidate.scheme.name
        faster = measured[name].timings[size].faster_than(measured[FP32.name].timings[size])
        drop = drop_of(scores[name], bench.job.workload.metric.higher_is_better)
        trials.append(Trial(name, drop, faster))
        if candidate.scheme == FP32:
            continue  # the final stage's own row shows it, measured afresh
        row = _row(target, bench.final.name, candidate.engine, "tried", bench)
        latency = _latencies(measured[name], baseline, measured["torch"], bench)
        rows.append(replace(row, validation=scores[name], latency=latency, footprint=measured[name].footprint))
    return trials, rows, failed


def _measure_afresh(
    target: Target, best: _Candidate, fp32: Mapping[str, Engine], bench: Bench
) -> tuple[list[Row], Row, Measured]:
    """Final figures in fresh processes: the original and each stage in FP32, and what ships on the evaluation set."""
    with bench.job.show.unit(f"{target.name}: measuring {best.scheme.name} afresh"):
        measured = _measure(
            {"torch": bench.reference, **fp32, "ships": best.engine}, bench, bench.job.recipe.benchmark.processes
        )
        rows = []
        for name, engine in fp32.items():
            row = _row(target, name, engine, "reference" if name == "original" else "stage", bench)
            latency = _latencies(measured[name], measured["original"], measured["torch"], bench)
            row = replace(row, latency=latency, footprint=measured[name].footprint)
            rows.append(replace(row, validation=_score(engine, FP32, bench.validation, bench)))
        rows[0] = replace(rows[0], evaluation=_score(fp32["original"], FP32, bench.evaluation, bench))
        chosen = _row(target, bench.final.name, best.engine, "chosen", bench)
        chosen = replace(
            chosen,
            latency=_latencies(measured["ships"], measured["original"], measured["torch"], bench),
            footprint=measured["ships"].footprint,
            validation=_score(best.engine, best.scheme, bench.validation, bench),
            evaluation=_score(best.engine, best.scheme, bench.evaluation, bench),
        )
    return rows, chosen, measured["torch"]


def _not_run(
    target: Target,
    reason: str,
    fp32: Mapping[str, Engine],
    candidates: Sequence[_Candidate],
    failures: Sequence[Row],
    bench: Bench,
) -> Deployment:
    """Rows of a target whose artifacts are built but cannot run here: nothing about them is invented."""
    rows = [replace(_row(target, "original", fp32["original"], "reference", bench), status="compiled", reason=reason)]
    for candidate in candidates:
        if candidate.scheme == FP32 and len(bench.stages) == 1:
            continue  # the reference is that engine
        row = _row(target, bench.final.name, candidate.engine, "tried", bench)
        rows.append(replace(row, status="compiled", reason=reason))
    best = candidates[0]
    why = f"the target's best guess; {reason}"
    chosen = replace(_row(target, bench.final.name, best.engine, "chosen", bench), status="compiled", reason=why)
    bench.job.show.say(f"{target.name}: {len(candidates)} schemes compiled; {reason}")
    verdict = Verdict(target.name, "not run here", best.scheme.name, (f"not judged: {reason}",))
    return Deployment((*rows, *failures, chosen), verdict)


def _measure(engines: Mapping[str, Engine], bench: Bench, processes: int) -> dict[str, Measured]:
    benchmark = bench.job.recipe.benchmark
    inputs = {size: timing_inputs(bench.job.workload, benchmark, size) for size in benchmark.batch_sizes}
    protocol = Protocol(benchmark.threads, benchmark.seconds, processes, bench.job.recipe.seed)
    return measure(engines, inputs, protocol, bench.job.show.track)


def _score(engine: Engine, scheme: Scheme, split: Split, bench: Bench) -> Score:
    memo = (engine.path, split.name)
    if memo not in bench.scores:
        rows = statistics_of(
            engine,
            split,
            bench.job.workload.metric,
            threads=bench.cores,
            one_by_one=scheme.mode == "dynamic",
            track=bench.job.show.track,
            total=split.number_of_batches,
        )
        original = bench.validation_rows if split is bench.validation else bench.evaluation_rows
        bench.scores[memo] = score(bench.job.workload.metric, rows, original, split.name)
    return bench.scores[memo]


def _latencies(mine: Measured, fp32: Measured, torch: Measured, bench: Bench) -> tuple[Latency, ...]:
    sizes = bench.job.recipe.benchmark.sizes
    return tuple(
        Latency(
            batch_size=size,
            sizes=sizes,
            threads=timings.threads,
            median_s=timings.median_s,
            block_medians_s=timings.by_process_s,
            faster_than_torch=timings.faster_than(torch.timings[size]),
            faster_than_fp32=None if mine is fp32 else timings.faster_than(fp32.timings[size]),
        )
        for size, timings in mine.timings.items()
    )


def _row(target: Target, stage: str, engine: Engine, role: Role, bench: Bench) -> Row:
    return Row(
        target=target.name,
        stage=stage,
        scheme=engine.scheme,
        role=role,
        status="measured",
        size_bytes=engine.size_bytes,
        build_s=engine.build_s,
        operators=engine.operators,
        files=shipped_files(engine, bench.job.directory.path),
    )


def _failed(target: Target, scheme: Scheme, error: Exception, bench: Bench) -> Row:
    return Row(target.name, bench.final.name, scheme.name, "tried", "failed", reason=str(error))
