"""Why the artifacts of a run are not faster: profiles them on this machine and says what would help."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from benchmarks.explain.explain import explain
from benchmarks.explain.figures import Explanation, Subject
from benchmarks.explain.graph import quantization_of
from benchmarks.explain.roofline import Roofline, measure_roofline
from benchmarks.explain.tables import explanation_tables
from benchmarks.machine import fingerprint
from benchmarks.profile import profile_of
from benchmarks.render.tables import latency_at, main_point
from benchmarks.render.wording import milliseconds
from benchmarks.report import Report, Row, write_text_whole
from compress.engines import ENGINE, read_engine
from compress.profile_inputs import Call, calls_of, profile_inputs
from export.errors import InputError
from targets import FP32, REGISTRY, Engine, Profile, target_class
from targets.isa import architecture, instruction_sets, slow_int8

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Point:
    """What the run's latency was measured at first: the inputs that are profiled."""

    batch_size: int
    sizes: Mapping[str, int]
    threads: int


@dataclass(frozen=True)
class RunExplanation:
    """Explanations by target in the order of the report; `left_out` has a sentence for every target without one."""

    explanations: tuple[Explanation, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...] = ()


def explain_run(run: Path, target: str | None, scheme: str | None, console: Console) -> RunExplanation:
    """Profile what ships for each target, or one scheme that was tried, beside its FP32.

    Where FP32 ships, the fastest INT8 engine that was tried is explained as well.

    Raises:
        InputError: if `run` is not a run's folder, or has no such target or scheme.
    """
    report = Report.read(run)
    point, explanations, left_out = _point(report), [], []
    for name in _targets(report, target, scheme):
        if name not in REGISTRY.names():
            left_out.append(f"{name}: not explained: no target of that name is installed")
            continue
        rows = _rows(report, name, scheme)
        reason = target_class(name)().cannot_run() or next((row.reason for row in rows if row.status == "compiled"), "")
        if reason or not rows:
            left_out.append(f"{name}: not explained: {reason or 'nothing of it was compiled'}")
            continue
        with console.status(f"{name}: measuring what this machine can do"):
            roofline = measure_roofline(target_class(name)(), point.threads)
        for row in rows:
            with console.status(f"{name} {row.scheme}: profiling"):
                explanations += [explain(subject) for subject in _subjects(row, report, run, point, roofline)]
    return RunExplanation(tuple(explanations), tuple(left_out), tuple(_notes(report, point, explanations)))


def print_explanations(found: RunExplanation, console: Console) -> None:
    """The changes first, then where the time goes."""
    from rich.text import Text

    from benchmarks.render.terminal import print_table

    for each in found.explanations:
        console.print()
        console.rule(Text(f"{each.title}: {milliseconds(each.call_s)} ms a call at batch {each.batch_size}"))
        console.print(Text("What would help most", style="bold"))
        for number, change in enumerate(each.changes, start=1):
            gain = f"−{milliseconds(change.gain_s)} ms, −{100 * change.gain_s / each.call_s:.0f} %"
            console.print(Text.assemble(f"{number}. {change.sentence} ", (gain, "bold green")))
        if not each.changes:
            console.print("Nothing that the figures speak for: no change is worth 1 % of a call.")
        console.print()
        console.print(Text("What the figures say", style="bold"))
        for finding in each.findings:
            console.print(Text(f"- {finding}"))
        for table in explanation_tables(each):
            print_table(table, console)
    console.print()
    for sentence in (*found.left_out, *found.notes):
        console.print(Text(sentence, style="dim"))


def write_json(found: RunExplanation, path: Path) -> None:
    """Everything, all layers, as plain JSON."""
    write_text_whole(path, json.dumps(asdict(found), indent=1, allow_nan=False) + "\n")


def _targets(report: Report, target: str | None, scheme: str | None) -> list[str]:
    """Those asked for, in the order of the report."""
    if target is not None and target not in report.targets:
        raise InputError(f"compress explain: found --target {target}, this run has {', '.join(report.targets)}")
    names = [target] if target else list(report.targets)
    if scheme is None:
        return names
    known = {name: _schemes(report, name) for name in names}
    if not any(scheme in schemes for schemes in known.values()):
        has = "; ".join(f"{name} has {', '.join(schemes) or 'nothing compiled'}" for name, schemes in known.items())
        raise InputError(f"compress explain: found --scheme {scheme}, {has}")
    return [name for name, schemes in known.items() if scheme in schemes]


def _schemes(report: Report, target: str) -> dict[str, Row]:
    """What was compiled of the final model, by scheme; what ships may be of a stage before it."""
    built = [row for row in report.rows if row.target == target and row.files and row.role != "control"]
    final = next((row.stage for row in reversed(built) if row.role == "tried"), built[-1].stage if built else None)
    return {row.scheme: row for row in built if row.stage == final}


def _rows(report: Report, target: str, scheme: str | None) -> list[Row]:
    """What is explained of a target: the scheme asked for; else what ships and, if that is FP32, the best INT8 tried."""
    schemes = _schemes(report, target)
    if scheme is not None:
        return [schemes[scheme]]
    chosen = report.chosen(target)
    if chosen is None:
        return []
    int8 = [row for name, row in schemes.items() if "int8" in name and row.latency]
    best = min(int8, key=lambda row: row.latency[0].median_s, default=None)
    return [chosen, best] if chosen.scheme == FP32.name and best is not None else [chosen]


def _point(report: Report) -> Point:
    measured = main_point(report)
    if measured is not None:
        return Point(measured.batch_size, measured.sizes, measured.threads)
    benchmark = report.recipe.get("benchmark", {})
    return Point(benchmark.get("batch_sizes", [1])[0], benchmark.get("sizes", {}), benchmark.get("threads", 1))


def _subjects(row: Row, report: Report, run: Path, point: Point, roofline: Roofline) -> list[Subject]:
    """The engine; of a model that writes each part as it is called."""
    engine = _engine(row, run)
    before = None if row.scheme == FP32.name else _fp32_row(report, row)
    if engine.generation is None:
        return [_subject(engine, row, before, report, run, point, roofline)]
    fp32 = None if before is None else _engine(before, run)
    theirs = [None] * 2 if fp32 is None else calls_of(fp32, point.batch_size, point.sizes)
    mine = calls_of(engine, point.batch_size, point.sizes)
    return [_part_subject(engine, call, fp32, other, point, roofline) for call, other in zip(mine, theirs, strict=True)]


def _part_subject(
    engine: Engine, call: Call, fp32: Engine | None, before: Call | None, point: Point, roofline: Roofline
) -> Subject:
    """Heads may have been pruned between the two: each has its own caches."""
    part = engine.parts[call.part]
    return Subject(
        target=engine.target,
        scheme=engine.scheme,
        profile=profile_of(part, call.inputs, point.threads, past=call.past),
        roofline=roofline,
        fp32=profile_of(fp32.parts[before.part], before.inputs, point.threads, past=before.past)
        if fp32 and before
        else None,
        quantization=quantization_of(part),
        batch_size=len(next(iter(call.inputs.values()))),
        slow_int8=slow_int8(instruction_sets(), architecture()),
        part=f"{call.part}, {call.words}",
        times=call.times,
    )


def _subject(
    engine: Engine, row: Row, before: Row | None, report: Report, run: Path, point: Point, roofline: Roofline
) -> Subject:
    own = latency_at(row, measured) if (measured := main_point(report)) else None
    return Subject(
        target=row.target,
        scheme=row.scheme,
        profile=(profile := _profile(engine, point)),
        roofline=roofline,
        fp32=_profile(_engine(before, run), point) if before else None,
        quantization=quantization_of(engine),
        batch_size=point.batch_size,
        measured=own.faster_than_fp32 if own and before and before.role == "reference" else None,
        others=dict(_others(report, row, profile.call_s)),
        slow_int8=slow_int8(instruction_sets(), architecture()),
    )


def _profile(engine: Engine, point: Point) -> Profile:
    return profile_of(engine, profile_inputs(engine.inputs, point.batch_size, point.sizes), point.threads)


def _fp32_row(report: Report, row: Row) -> Row | None:
    """The same model in FP32, so that layers compare; else the original."""
    same = [
        each
        for each in report.rows
        if (each.target, each.stage, each.scheme) == (row.target, row.stage, FP32.name) and each.files
    ]
    return same[0] if same else report.reference(row.target)


def _engine(row: Row, run: Path) -> Engine:
    """Read from the folder that holds the row's files.

    Raises:
        InputError: if it is gone.
    """
    folders = [run / file for file in row.files]
    folder = next((parent for file in folders for parent in file.parents if (parent / ENGINE).is_file()), None)
    missing = [file for file in row.files if not (run / file).is_file()]
    if folder is None or missing:
        absent = missing[0] if missing else ENGINE
        raise InputError(
            f"{run}: {absent} of {row.target} {row.scheme} is not there; run the recipe again with this --out"
        )
    return read_engine(folder)


def _others(report: Report, row: Row, call_s: float) -> Iterable[tuple[str, float]]:
    """What other targets ship, at the run's ratio of latencies to this row's."""
    rejected = {verdict.target for verdict in report.verdicts if verdict.decision == "rejected"}
    point = main_point(report)
    own = latency_at(row, point) if point else None
    for target in report.targets:
        chosen = report.chosen(target)
        other = latency_at(chosen, point) if chosen and point else None
        if chosen and own and other and target != row.target:
            judged = " (outside the budget)" if target in rejected else ""
            yield f"{target} {chosen.scheme}{judged}", call_s * other.median_s / own.median_s


def _notes(report: Report, point: Point, found: Sequence[Explanation]) -> Iterable[str]:
    if not found:
        return
    sizes = "".join(f", {axis} {size}" for axis, size in point.sizes.items())
    threads = f"{point.threads} thread{'' if point.threads == 1 else 's'}"
    yield f"Profiled here at batch {point.batch_size}{sizes}, {threads}; gains are estimates from these figures: measure after each."
    yield from _answers(found)
    load = psutil.getloadavg()[0]
    if load > point.threads + 1:
        yield f"Something else runs on this machine (load {load:.1f}): shares and gains are rough; explain again when it is quiet."
    here, there = fingerprint()["cpu"], report.machine.get("cpu")
    if here != there:
        yield f"The run was measured on another machine ({there}); all figures here are of this one ({here})."


def _answers(found: Sequence[Explanation]) -> Iterable[str]:
    """What an answer is made of, of every engine that writes."""
    parts: dict[str, list[Explanation]] = {}
    for each in found:
        if each.part:
            parts.setdefault(f"{each.target} {each.scheme}", []).append(each)
    for name, calls in parts.items():
        whole_s = sum(each.times * each.call_s for each in calls)
        shares = "; ".join(
            f"{each.part}: {each.times} of {milliseconds(each.call_s)} ms, {each.times * each.call_s / whole_s:.0%}"
            for each in calls
        )
        yield f"{name}: an answer's calls take {milliseconds(whole_s)} ms together. {shares}."
