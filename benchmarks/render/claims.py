"""What may be said about speed: the A/A row in words, and whether a target's ratios may be claimed at all."""

from __future__ import annotations

from benchmarks.measurements import Interval
from benchmarks.render.wording import duration, ratio
from benchmarks.report import Report, Verdict
from benchmarks.stability import unstable

NO_CLAIM = "no claim"
"""Stands where a ratio was measured on a machine that its own A/A row calls unstable."""


def instability(report: Report, target: str) -> str | None:
    """Why no speed claim is made on a target, from its A/A row; None where the machine was stable or there is no row."""
    control = report.control(target)
    return unstable(control, report.half_width_limit) if control else None


def control_line(report: Report, target: str) -> str | None:
    """'A/A: the reference against itself 1.001 [0.996, 1.006]: stable'; None where it was not measured."""
    control = report.control(target)
    against_itself = control.latency[0].faster_than_fp32 if control and control.latency else None
    if against_itself is None:
        return None
    ends = f"[{against_itself.low:.3f}, {against_itself.high:.3f}]"
    state = "unstable, no speed claim" if instability(report, target) else "stable"
    return f"A/A: the reference against itself {against_itself.value:.3f} {ends}: {state}"


def control_lines(report: Report) -> tuple[str, ...]:
    """One a target that has an A/A row, with the target's name."""
    lines = ((target, control_line(report, target)) for target in report.targets)
    return tuple(f"{target}: {line}" for target, line in lines if line)


def unstable_lines(report: Report) -> tuple[str, ...]:
    """One a target on which no speed claim is made, and why."""
    reasons = ((target, instability(report, target)) for target in report.targets)
    return tuple(f"{target}: {reason}" for target, reason in reasons if reason)


def claimed_ratio(report: Report, target: str, interval: Interval | None, with_interval: bool = True) -> str:
    """A ratio as it is spelled, or NO_CLAIM where the target's machine was unstable."""
    return NO_CLAIM if interval and instability(report, target) else ratio(interval, with_interval)


def wrong_answers(report: Report) -> tuple[str, ...]:
    """What is wrong with the answers of any engine, a sentence each; these come before every figure."""
    return tuple(
        f"{row.target}: {row.stage} {row.scheme}: {finding}"
        for row in report.rows
        for finding in (*row.findings, *_constant(row.evaluation.constant if row.evaluation else None))
    )


def needs(verdict: Verdict) -> str | None:
    """'needs about 1,200 more samples and 40 s more of measuring'; None where nothing is missing."""
    parts = []
    if verdict.more_samples:
        parts.append(f"{verdict.more_samples:,} more samples")
    if verdict.more_seconds:
        parts.append(f"{duration(verdict.more_seconds)} more of measuring")
    return f"needs about {' and '.join(parts)}" if parts else None


def _constant(label: str | None) -> tuple[str, ...]:
    return (
        ()
        if label is None
        else (f"every sample is given class '{label}': the artifact no longer tells its inputs apart",)
    )
