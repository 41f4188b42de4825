"""The report's rows of one target, from engines and what was measured of them."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.latency import Measured
from benchmarks.report import Role, Row
from compress.deploy.candidates import Candidate
from compress.engines import shipped_files
from compress.measuring import Bench
from targets import Engine, Scheme, Target


def row_of(target: Target, stage: str, engine: Engine, role: Role, bench: Bench) -> Row:
    """A row with what is known without running the engine."""
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
        settings=engine.settings if role == "chosen" else {},
        facts=engine.facts if role == "chosen" else {},
    )


def candidate_row(target: Target, candidate: Candidate, role: Role, bench: Bench) -> Row:
    """The same for a candidate."""
    return replace(row_of(target, candidate.stage, candidate.engine, role, bench), given_back=candidate.given_back)


def timed(row: Row, measured: Measured, original: Measured, torch: Measured | None, bench: Bench) -> Row:
    """With latency against the original on the same runtime and in torch, footprint, and what is wrong with the answers."""
    latency = bench.latencies(measured, original, torch)
    return replace(row, latency=latency, footprint=measured.footprint, findings=measured.findings)


def failed_row(target: Target, scheme: Scheme, reason: str, bench: Bench) -> Row:
    """Of a scheme that could not be built or gives no answers."""
    return Row(target.name, bench.final.name, scheme.name, "tried", "failed", reason=reason)
