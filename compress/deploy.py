"""The half of a run that each target repeats: compile, try every scheme, choose on validation data, measure afresh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.latency import CONTROL, Measured
from benchmarks.report import Role, Row, Score, Verdict
from compress.engines import compiled, shipped_files
from compress.measuring import Bench
from compress.recipe import Recipe
from compress.stages import ModelStage, fp32_engine
from compress.verdict import Trial, choose, constant_findings, drop_of, judge
from export.errors import CompressError, QualityError, UnsupportedError
from targets import FP32, Engine, Scheme, Target


@dataclass(frozen=True)
class Deployment:
    """A target's rows and verdict. Where it ran, also:

    Args:
        torch: the original in torch, timed beside this target's engines.
        shipped: the metric's statistics of what ships on the evaluation set, shape (samples, k).
    """

    rows: tuple[Row, ...]
    verdict: Verdict
    torch: Measured | None = None
    shipped: np.ndarray | None = None

    @property
    def target(self) -> str:
        return self.verdict.target


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
    (reference, control, *stage_rows), chosen_row, torch = _measure_afresh(target, best, fp32, bench)
    rows = (reference, control, *stage_rows, *tried_rows, *failed, *failures, replace(chosen_row, reason=why))
    higher_is_better = bench.job.workload.metric.higher_is_better
    limit = bench.job.recipe.benchmark.half_width_limit
    verdict = judge(rows[-1], reference, control, bench.job.recipe.budget, higher_is_better, limit)
    shipped = bench.rows(best.engine, best.scheme.mode == "dynamic", bench.evaluation)
    return Deployment(rows, verdict, torch, shipped)


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
        for engine in fp32.values():
            bench.score(engine, FP32, bench.validation)
        for candidate in candidates:
            try:
                scores[candidate.scheme.name] = bench.score(candidate.engine, candidate.scheme, bench.validation)
            except CompressError as error:
                if candidate.scheme == FP32:
                    raise
                failed.append(_failed(target, candidate.scheme, error, bench))
        running = [candidate for candidate in candidates if candidate.scheme.name in scores]
        original = {"original": fp32["original"]} if len(bench.stages) > 1 else {}
        measured = bench.time(
            {FP32.name: fp32[bench.final.name]} | original | {each.scheme.name: each.engine for each in running},
            pairs=[(each.scheme.name, FP32.name) for each in running if each.scheme != FP32],
        )
    baseline = measured.get("original", measured[FP32.name])
    size = bench.job.recipe.benchmark.batch_sizes[0]
    trials, rows = [], []
    for candidate in running:
        name = candidate.scheme.name
        faster = measured[name].timings[size].faster_than(measured[FP32.name].timings[size])
        drop = drop_of(scores[name], bench.job.workload.metric.higher_is_better)
        trials.append(Trial(name, drop, faster, (*constant_findings(scores[name]), *measured[name].findings)))
        if candidate.scheme == FP32:
            continue  # the final stage's own row shows it, measured afresh
        row = _row(target, bench.final.name, candidate.engine, "tried", bench)
        row = replace(row, validation=scores[name], latency=bench.latencies(measured[name], baseline, None))
        rows.append(replace(row, footprint=measured[name].footprint, findings=measured[name].findings))
    return trials, rows, failed


def _measure_afresh(
    target: Target, best: _Candidate, fp32: Mapping[str, Engine], bench: Bench
) -> tuple[list[Row], Row, Measured]:
    """Final figures in fresh processes: the original against itself, each stage in FP32, and what ships.

    What ships and the original are scored on the evaluation set, the stages between on the validation set.
    """
    with bench.job.show.unit(f"{target.name}: measuring {best.scheme.name} afresh"):
        validation = {name: bench.score(engine, FP32, bench.validation) for name, engine in fp32.items()}
        engines = {"original": fp32["original"], "ships": best.engine, "torch": bench.reference, **fp32}
        measured = bench.time(engines, control="original", pairs=[("ships", "original")])
        original, torch = measured["original"], measured["torch"]
        rows = []
        for name, engine in fp32.items():
            row = _row(target, name, engine, "reference" if name == "original" else "stage", bench)
            rows.append(replace(_timed(row, measured[name], original, torch, bench), validation=validation[name]))
        evaluation = bench.score(fp32["original"], FP32, bench.evaluation)
        rows[0] = replace(rows[0], evaluation=evaluation, layers=bench.layers(fp32["original"]))
        again = _row(target, "original", fp32["original"], "control", bench)
        rows.insert(1, _timed(again, measured[CONTROL], original, torch, bench))
        chosen = _timed(
            _row(target, bench.final.name, best.engine, "chosen", bench), measured["ships"], original, torch, bench
        )
        chosen = replace(
            chosen,
            validation=bench.score(best.engine, best.scheme, bench.validation),
            evaluation=bench.score(best.engine, best.scheme, bench.evaluation),
            layers=bench.layers(best.engine),
        )
        if bench.job.recipe.benchmark.throughput:
            before, after = bench.throughput(fp32["original"], best.engine)
            rows[0], chosen = replace(rows[0], throughput=before), replace(chosen, throughput=after)
    return rows, chosen, torch


def _timed(row: Row, measured: Measured, original: Measured, torch: Measured, bench: Bench) -> Row:
    latency = bench.latencies(measured, original, torch)
    return replace(row, latency=latency, footprint=measured.footprint, findings=measured.findings)


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
