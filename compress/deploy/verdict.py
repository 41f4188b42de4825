"""Judging what ships against the budget. Pure functions over measured values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from benchmarks.classification import broken_classes, worst_class
from benchmarks.measurements import Interval
from benchmarks.render.wording import MetricWording, duration, ratio
from benchmarks.report import Decision, Row, Score, Verdict
from benchmarks.stability import unstable
from compress.deploy.choice import ROUNDING
from compress.recipe_settings import Budget

ON_THE_LIMIT = 0.05
"""Share of the half-width within which a value lies on the limit: 400 times the evidence would have to decide it."""

NAMED = 3
"""Broken classes that are named one by one."""

State = Literal["kept", "missed", "undecided", "rejected"]


def judge(
    chosen: Row,
    reference: Row,
    control: Row | None,
    budget: Budget,
    higher_is_better: bool,
    half_width_limit: float,
) -> Verdict:
    """The chosen artifact against each line of the budget, decided on the 95 % interval and not on the point.

    A line is kept where the whole interval keeps it, missed where the whole interval misses it, and undecided where it
    lies on both sides: then the verdict says about how much more evidence would tell. Broken answers reject whatever
    the budget allows.

    Args:
        reference: the original in FP32 on the same runtime.
        control: that one measured against itself (A/A); beside an unstable one no speed is claimed.
        half_width_limit: of the A/A interval, from which on the machine is called unstable.
    """
    unsteady = unstable(control, half_width_limit) if control else None
    lines = [
        *(_Line("rejected", finding) for finding in (*chosen.findings, *_broken(chosen.evaluation))),
        *_drop_lines(chosen.evaluation, budget, higher_is_better),
        *_class_lines(chosen.evaluation, budget),
        *_speed_lines(chosen, budget, unsteady),
        *_size_lines(chosen, reference, budget),
    ]
    states = {line.state for line in lines}
    decision: Decision = (
        "rejected" if states & {"rejected", "missed"} else "inconclusive" if "undecided" in states else "accepted"
    )
    return Verdict(
        chosen.target,
        decision,
        chosen.scheme,
        tuple(f"{line.state}: {line.text}" for line in lines),
        more_samples=max((line.more_samples for line in lines if line.more_samples), default=None),
        more_seconds=max((line.more_seconds for line in lines if line.more_seconds), default=None),
    )


def constant_findings(score: Score | None) -> tuple[str, ...]:
    """A sentence if the engine gives every sample the same class."""
    if score is None or score.constant is None:
        return ()
    return (f"every sample is given class '{score.constant}': the artifact no longer tells its inputs apart",)


@dataclass(frozen=True)
class _Line:
    """A finding, and about how much more evidence an undecided one needs."""

    state: State
    text: str
    more_samples: int | None = None
    more_seconds: float | None = None


def _broken(score: Score | None) -> tuple[str, ...]:
    if score is None or score.constant is not None:
        return constant_findings(score)  # a constant answer breaks all classes but one: once is enough
    broken = broken_classes(score.classes)
    told = [
        f"class '{found.label}' is broken: {100 * found.before:.1f} % → {100 * found.after:.1f} % "
        f"of its {found.samples:,} samples are right"
        for found in broken[:NAMED]
    ]
    return (*told, f"{len(broken) - NAMED} more classes are broken") if len(broken) > NAMED else tuple(told)


def _drop_lines(score: Score | None, budget: Budget, higher_is_better: bool) -> Iterable[_Line]:
    if score is None or score.difference is None:
        return
    original = score.value - score.difference.value
    allowed = budget.against(original).metric_drop
    if allowed is None:
        return
    wording = MetricWording.of_values(score.metric, [score.value])
    rise = score.difference if higher_is_better else _negative(score.difference)
    change = f"{wording.change(score.difference.value)}{wording.difference_unit} {_ends(score.difference, wording)}"
    limit = f"a {'loss' if higher_is_better else 'rise'} of {wording.limit(allowed)}"
    if allowed != budget.metric_drop:
        limit += f" ({budget.metric_drop_percent:g} % of the original's {wording.value(original)}{wording.unit})"
    yield _on_samples(rise, -allowed, f"{score.metric} changes by {change}, {limit} allowed", score.samples)


def _class_lines(score: Score | None, budget: Budget) -> Iterable[_Line]:
    worst = worst_class(score.classes) if score else None
    if budget.worst_class_drop is None or score is None or worst is None or worst.difference is None:
        return
    wording = MetricWording("share", percent=True)
    text = (
        f"class '{worst.label}', the worst, changes by {wording.change(worst.difference.value)} pp "
        f"{_ends(worst.difference, wording)} (95 % over all {len(score.classes)} classes), "
        f"a loss of {wording.limit(budget.worst_class_drop)} allowed"
    )
    yield _on_samples(worst.difference, -budget.worst_class_drop, text, score.samples)


def _speed_lines(chosen: Row, budget: Budget, unsteady: str | None) -> Iterable[_Line]:
    if budget.speedup is None or not chosen.latency or chosen.latency[0].faster_than_fp32 is None:
        return
    if unsteady:
        yield _Line("undecided", unsteady)
        return
    latency, found = chosen.latency[0], chosen.latency[0].faster_than_fp32
    state = _state(found, budget.speedup)
    text = (
        f"{ratio(found)} faster than the same runtime's FP32 original at batch {latency.batch_size}, "
        f"at least {budget.speedup:g}x asked"
    )
    if state != "undecided":
        yield _Line(state, text)
        return
    more = more_evidence(found, budget.speedup, latency.measured_s)
    if more is None:
        yield _Line(state, f"{text}; it lies on the limit: no reasonable measuring time decides it")
        return
    needs = f"about {duration(more)} more measuring" if more else "more measuring"
    yield _Line(state, f"{text}; needs {needs}", more_seconds=more or None)


def _size_lines(chosen: Row, reference: Row, budget: Budget) -> Iterable[_Line]:
    if budget.size_ratio is None or not chosen.size_bytes or not reference.size_bytes:
        return
    found = chosen.size_bytes / reference.size_bytes
    yield _Line(
        "kept" if found <= budget.size_ratio else "missed",
        f"{found:.2f}x the bytes of the same runtime's FP32 original, at most {budget.size_ratio:g}x allowed",
    )


def _on_samples(rise: Interval, limit: float, text: str, samples: int) -> _Line:
    """The line of a figure that comes from evaluation samples and must be `limit` or more."""
    text = f"{text}, on {samples:,} evaluation samples"
    state = _state(rise, limit)
    if state != "undecided":
        return _Line(state, text)
    more = more_evidence(rise, limit, samples)
    if more is None:
        return _Line(state, f"{text}; it lies on the limit: no reasonable number of samples decides it")
    whole = max(1, round(more))
    return _Line(state, f"{text}; needs about {whole:,} more evaluation samples", more_samples=whole)


def more_evidence(found: Interval, limit: float, evidence: float) -> float | None:
    """About how much more of the same evidence (samples, seconds) would take the limit out of the interval.

    The half-width on the limit's side shrinks with the square root of the evidence: evidence x ((half / margin)^2 - 1),
    rounded up to two digits, and for a value that stays where it is. None where the value lies on the limit within 5 %
    of the half-width.
    """
    margin = abs(limit - found.value)
    half = found.value - found.low if found.value >= limit else found.high - found.value
    if margin <= ON_THE_LIMIT * half:
        return None
    more = max(0.0, evidence * ((half / margin) ** 2 - 1))
    if more == 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(more)) - 1)
    return math.ceil(more / step - ROUNDING) * step


def _state(found: Interval, at_least: float) -> State:
    if found.low >= at_least - ROUNDING:
        return "kept"
    return "missed" if found.high < at_least - ROUNDING else "undecided"


def _negative(interval: Interval) -> Interval:
    return Interval(-interval.value, -interval.high, -interval.low)


def _ends(interval: Interval, wording: MetricWording) -> str:
    return f"[{wording.change(interval.low)}, {wording.change(interval.high)}]"
