"""The half of a run that each target repeats: compile, try every scheme, choose on validation data, measure afresh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.latency import CONTROL, Measured
from benchmarks.report import Row, Verdict
from benchmarks.stability import crowded
from compress.deploy.candidates import Candidate, compile_candidates, offered
from compress.deploy.choice import ORIGINAL, Ratios, choose, confirm
from compress.deploy.rows import candidate_row, failed_row, row_of, timed
from compress.deploy.trials import ratios, try_candidates
from compress.deploy.verdict import judge
from compress.measuring import Bench
from compress.qat.candidate import fine_tuned_candidates
from compress.recipe import Recipe
from compress.stages import ModelStage, fp32_engine
from targets import FP32, Engine, Target


@dataclass(frozen=True)
class Deployment:
    """A target's rows and verdict. Where it ran, also:

    Args:
        torch: the original in torch, timed beside this target's engines.
        shipped: the metric's statistics of what ships on the evaluation set, shape (samples, k).
        warnings: what the report must say of this target.
    """

    rows: tuple[Row, ...]
    verdict: Verdict
    torch: Measured | None = None
    shipped: np.ndarray | None = None
    warnings: tuple[str, ...] = ()

    @property
    def target(self) -> str:
        return self.verdict.target


@dataclass(frozen=True)
class _Afresh:
    """Final figures: the rows of the original, its control and the stages, what ships and its row."""

    rows: tuple[Row, ...]
    ships: Candidate
    row: Row
    torch: Measured
    warnings: tuple[str, ...]


def deploy(target: Target, bench: Bench) -> Deployment:
    """Bring the final model to one target; every figure comes from the compiled artifacts."""
    schemes = offered(target, bench)
    absent = target.cannot_run()
    fp32 = _stage_engines(target, bench.stages if absent is None else _ends(bench.stages), bench)
    candidates, refused = compile_candidates(target, schemes, fp32[bench.final.name], bench)
    fine_tuned, not_fine_tuned = fine_tuned_candidates(target, candidates, bench)
    candidates = [*candidates, *fine_tuned]
    failures = [failed_row(target, scheme, str(error), bench) for scheme, error in (*refused, *not_fine_tuned)]
    if absent is not None:
        return _not_run(target, absent, fp32, candidates, failures, bench)
    tried = try_candidates(target, candidates, fp32, bench)
    name, why = choose(tried.trials, FP32.name, bench.validation_budget)
    original = Candidate(FP32, fp32[ORIGINAL], ORIGINAL, bench.stages[0].ships)
    by_name = {each.scheme.name: each for each in tried.candidates} | {ORIGINAL: original}
    afresh = _measure_afresh(target, name, why, by_name, fp32, bench)
    rows = (*afresh.rows, *tried.rows, *failures, afresh.row)
    higher_is_better = bench.job.workload.judge.higher_is_better
    limit = bench.job.recipe.benchmark.half_width_limit
    verdict = judge(rows[-1], rows[0], rows[1], bench.job.recipe.budget, higher_is_better, limit)
    shipped = bench.rows(afresh.ships.engine, afresh.ships.scheme.mode == "dynamic", bench.evaluation)
    return Deployment(rows, verdict, afresh.torch, shipped, afresh.warnings)


def units_of(target: Target, recipe: Recipe) -> int:
    """Units of work that `deploy` will show: one to compile and, where the target runs here, two to measure."""
    return 1 if target.cannot_run() else 3


def _ends(stages: Sequence[ModelStage]) -> Sequence[ModelStage]:
    return [stages[0], stages[-1]] if len(stages) > 1 else stages


def _stage_engines(target: Target, stages: Sequence[ModelStage], bench: Bench) -> dict[str, Engine]:
    """Each of `stages` on this target in FP32, by the stage's name."""
    with bench.job.show.unit(f"{target.name}: compiling"):
        return {stage.name: fp32_engine(bench.stages.index(stage), stage, target, bench.job) for stage in stages}


def _measure_afresh(
    target: Target,
    chosen: str,
    why: str,
    candidates: Mapping[str, Candidate],
    fp32: Mapping[str, Engine],
    bench: Bench,
) -> _Afresh:
    """Final figures in fresh processes: the original against itself, each stage in FP32, and what ships.

    What was chosen gives way to FP32 where it turns out slower. What ships and the original are scored on the
    evaluation set, the stages between on the validation set.

    Args:
        chosen: a name in `candidates`.
    """
    final, show = bench.final.name, bench.job.show
    with show.unit(f"{target.name}: measuring {chosen} afresh"):
        validation = {name: bench.score(engine, FP32, bench.validation) for name, engine in fp32.items()}
        engines = {ORIGINAL: fp32[ORIGINAL], "ships": candidates[chosen].engine, "torch": bench.reference, **fp32}
        measured = bench.time(engines, control=ORIGINAL, pairs=[("ships", ORIGINAL)])
        original, torch = measured[ORIGINAL], measured["torch"]
        in_fp32 = ratios("ships" if chosen == FP32.name else final, measured, final)
        of_final = Ratios({}, in_fp32.over_original)
        ships, contradiction = confirm(
            chosen, FP32.name, {chosen: ratios("ships", measured, final), FP32.name: of_final, ORIGINAL: Ratios({})}
        )
        why = f"{contradiction} (chosen before: {why})" if contradiction else why
        show.say(f"{target.name}: {ships} ships: {why}")
        rows = []
        for name, engine in fp32.items():
            row = row_of(target, name, engine, "reference" if name == ORIGINAL else "stage", bench)
            rows.append(replace(timed(row, measured[name], original, torch, bench), validation=validation[name]))
        evaluation = bench.score(fp32[ORIGINAL], FP32, bench.evaluation)
        rows[0] = replace(rows[0], evaluation=evaluation, layers=bench.layers(fp32[ORIGINAL]))
        again = row_of(target, ORIGINAL, fp32[ORIGINAL], "control", bench)
        rows.insert(1, timed(again, measured[CONTROL], original, torch, bench))
        best = candidates[ships]
        again_in_fp32 = {FP32.name: CONTROL if final == ORIGINAL else final, ORIGINAL: CONTROL}
        found = measured["ships" if ships == chosen else again_in_fp32[ships]]
        row = timed(candidate_row(target, best, "chosen", bench), found, original, torch, bench)
        row = replace(
            row,
            reason=why,
            validation=bench.score(best.engine, best.scheme, bench.validation),
            evaluation=bench.score(best.engine, best.scheme, bench.evaluation),
            layers=bench.layers(best.engine),
        )
        more_of_original, more = bench.writing_latencies(fp32[ORIGINAL], best.engine)
        rows[0] = replace(rows[0], latency=(*rows[0].latency, *more_of_original))
        row = replace(row, latency=(*row.latency, *more))
        if bench.job.recipe.benchmark.throughput:
            before, after = bench.throughput(fp32[ORIGINAL], best.engine)
            rows[0], row = replace(rows[0], throughput=before), replace(row, throughput=after)
    slower = of_final.slower
    warnings = [f"{target.name}: the model after {final} is, in FP32, {slower}"] if slower else []
    if neighbours := crowded(latency.elsewhere_cores for each in (rows[0], row) for latency in each.latency):
        warnings.append(f"{target.name}: {neighbours}")
    if unlike := bench.unlike_torch(fp32[ORIGINAL]):
        warnings.append(f"{target.name}: {unlike}")
    return _Afresh(tuple(rows), best, row, torch, tuple(warnings))


def _not_run(
    target: Target,
    reason: str,
    fp32: Mapping[str, Engine],
    candidates: Sequence[Candidate],
    failures: Sequence[Row],
    bench: Bench,
) -> Deployment:
    """Rows of a target whose artifacts are built but cannot run here: nothing about them is invented."""
    rows = [replace(row_of(target, ORIGINAL, fp32[ORIGINAL], "reference", bench), status="compiled", reason=reason)]
    for candidate in candidates:
        if candidate.scheme == FP32 and len(bench.stages) == 1:
            continue  # the reference is that engine
        rows.append(replace(candidate_row(target, candidate, "tried", bench), status="compiled", reason=reason))
    best = candidates[0]
    why = f"the target's best guess; {reason}"
    chosen = replace(candidate_row(target, best, "chosen", bench), status="compiled", reason=why)
    bench.job.show.say(f"{target.name}: {len(candidates)} schemes compiled; {reason}")
    verdict = Verdict(target.name, "not run here", best.scheme.name, (f"not judged: {reason}",))
    return Deployment((*rows, *failures, chosen), verdict)
