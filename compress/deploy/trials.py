"""Trying candidates on one target: accuracy on validation data, then latency of all of them against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.latency import Measured
from benchmarks.measurements import Interval
from benchmarks.report import Row, Score
from compress.accuracy_control import mixed_candidate
from compress.deploy.candidates import Candidate
from compress.deploy.choice import ORIGINAL, Ratios, Trial, drop_of
from compress.deploy.rows import candidate_row, failed_row, timed
from compress.deploy.verdict import constant_findings
from compress.measuring import Bench
from export.errors import CompressError
from targets import FP32, Engine, Target


@dataclass(frozen=True)
class Tried:
    """The candidates that gave answers, a trial for each, and the rows that the report shows of them."""

    candidates: tuple[Candidate, ...]
    trials: tuple[Trial, ...]
    rows: tuple[Row, ...]


def try_candidates(target: Target, candidates: Sequence[Candidate], fp32: Mapping[str, Engine], bench: Bench) -> Tried:
    """Accuracy on validation data and paired latency of every candidate; failures become rows of their own.

    Args:
        fp32: engines of the stages by name, the original's among them.
    """
    with bench.job.show.unit(f"{target.name}: trying {len(candidates)} schemes"):
        for engine in fp32.values():
            bench.score(engine, FP32, bench.validation)
        scores, failed = _scores(target, candidates, bench)
        running = [candidate for candidate in candidates if candidate.scheme.name in scores]
        if mixed := mixed_candidate(target, running, scores, bench):
            more, refused = _scores(target, [mixed.candidate] if mixed.candidate else [], bench)
            running += [mixed.candidate] if mixed.candidate and more else []
            scores |= more
            failed += refused if mixed.candidate else [failed_row(target, mixed.scheme, mixed.reason, bench)]
        original = {ORIGINAL: fp32[ORIGINAL]} if len(bench.stages) > 1 else {}
        measured = bench.time(
            {FP32.name: fp32[bench.final.name]} | original | {each.scheme.name: each.engine for each in running},
            pairs=[(each.scheme.name, FP32.name) for each in running if each.scheme != FP32],
        )
    higher_is_better = bench.job.workload.judge.higher_is_better
    trials = [
        Trial(
            name := candidate.scheme.name,
            drop_of(scores[name], higher_is_better),
            ratios(name, measured, FP32.name),
            (*constant_findings(scores[name]), *measured[name].findings),
            candidate.engine.size_bytes / fp32[ORIGINAL].size_bytes if fp32[ORIGINAL].size_bytes else None,
        )
        for candidate in running
    ]
    baseline = measured.get(ORIGINAL, measured[FP32.name])
    rows = [
        replace(
            timed(candidate_row(target, each, "tried", bench), measured[each.scheme.name], baseline, None, bench),
            validation=scores[each.scheme.name],
        )
        for each in running
        if each.scheme != FP32  # the final stage's own row shows it, measured afresh
    ]
    return Tried(tuple(running), tuple(trials), (*rows, *failed))


def ratios(name: str, measured: Mapping[str, Measured], final: str) -> Ratios:
    """How many times faster an engine is than the final model and than the original in FP32, by batch size.

    Args:
        final: under which name the final model in FP32 was measured.
    """

    def over(other: str) -> dict[int, Interval]:
        if other == name or other not in measured:
            return {}
        return {
            size: timings.faster_than(measured[other].timings[size]) for size, timings in measured[name].timings.items()
        }

    return Ratios(over(final), over(ORIGINAL) if final != ORIGINAL else {})


def _scores(target: Target, candidates: Sequence[Candidate], bench: Bench) -> tuple[dict[str, Score], list[Row]]:
    """Each scheme's score on validation data, and a row for each that gives no usable answers."""
    scores: dict[str, Score] = {}
    failed: list[Row] = []
    for candidate in candidates:
        try:
            scores[candidate.scheme.name] = bench.score(candidate.engine, candidate.scheme, bench.validation)
        except CompressError as error:
            if candidate.scheme == FP32:
                raise
            failed.append(failed_row(target, candidate.scheme, str(error), bench))
    return scores, failed
