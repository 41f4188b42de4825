"""Choosing what ships, and judging it against the budget. Pure functions over measured values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.report import Decision, Interval, Row, Score, Verdict
from compress.recipe import Budget

ROUNDING = 1e-9
"""A drop of 3 in 60 samples is 0.05 and a little in floating point."""


@dataclass(frozen=True)
class Trial:
    """One scheme of the final model, measured on validation data.

    Args:
        drop: loss of the metric against the original, positive where it is worse.
        faster_than_fp32: against the same final model in the same runtime's FP32, measured beside it.
    """

    scheme: str
    drop: float
    faster_than_fp32: Interval


def drop_of(score: Score, higher_is_better: bool) -> float:
    """Loss of the metric against the original; negative where the metric got better."""
    if score.difference is None:
        return 0.0
    return -score.difference.value if higher_is_better else score.difference.value


def choose(trials: Sequence[Trial], fp32: str, budget: Budget) -> tuple[str, str]:
    """The scheme that ships, and why.

    The fastest scheme that keeps the metric within the budget on validation data and whose 95 % interval is wholly
    faster than the same model in FP32; FP32 where there is none. Where the final model in FP32 itself misses the budget
    there, the steps before have spent it, not the schemes: these are then held to the same limit against that model.

    Args:
        trials: every scheme that ran, FP32 among them.
        fp32: name of the FP32 scheme.
    """
    limit = budget.metric_drop
    others = [trial for trial in trials if trial.scheme != fp32]
    lost = next(trial.drop for trial in trials if trial.scheme == fp32)
    spent = lost if limit is not None and lost > limit + ROUNDING else 0.0
    accurate = [trial for trial in others if limit is None or trial.drop - spent <= limit + ROUNDING]
    faster = [trial for trial in accurate if trial.faster_than_fp32.low > 1.0]
    against = f" (held against the final model in FP32, which itself loses {spent:.4f} there)" if spent else ""
    if faster:
        best = max(faster, key=lambda trial: trial.faster_than_fp32.value)
        return best.scheme, f"fastest of {len(trials)} schemes inside the budget on validation data{against}"
    if not others:
        return fp32, "no other scheme was offered or could be built"
    if not accurate:
        least = min(others, key=lambda trial: trial.drop)
        return fp32, (
            f"every faster scheme lost more than {limit:g} on validation data{against}; "
            f"the best, {least.scheme}, {least.drop - spent:.4f}"
        )
    quickest = max(accurate, key=lambda trial: trial.faster_than_fp32.value).faster_than_fp32
    return fp32, (
        f"no accurate scheme beat FP32 beyond the measuring interval (best {quickest.value:.2f}x, "
        f"from {quickest.low:.2f}x)"
    )


def judge(chosen: Row, reference: Row, budget: Budget, higher_is_better: bool) -> Verdict:
    """The chosen artifact against each line of the budget.

    A line is kept where the measured value keeps it, missed where the whole 95 % interval misses it, and
    undecided where the value misses it but the interval does not exclude it.
    """
    lines = [
        _drop_line(chosen, budget, higher_is_better),
        _speed_line(chosen, budget),
        _size_line(chosen, reference, budget),
    ]
    decided = [line for line in lines if line is not None]
    states = {state for state, _ in decided}
    decision: Decision = "rejected" if "missed" in states else "inconclusive" if "undecided" in states else "accepted"
    return Verdict(chosen.target, decision, chosen.scheme, tuple(text for _, text in decided))


def _drop_line(chosen: Row, budget: Budget, higher_is_better: bool) -> tuple[str, str] | None:
    score = chosen.evaluation
    if budget.metric_drop is None or score is None or score.difference is None:
        return None
    drop, best = drop_of(score, higher_is_better), score.difference.high if higher_is_better else -score.difference.low
    state = _state(drop <= budget.metric_drop + ROUNDING, -best <= budget.metric_drop + ROUNDING)
    change, limit = score.difference.value, budget.metric_drop
    return state, (
        f"{state}: {score.metric} changes by {change:+.4f} on {score.samples:,} evaluation samples, a loss of {limit:g} allowed"
    )


def _speed_line(chosen: Row, budget: Budget) -> tuple[str, str] | None:
    if budget.speedup is None or not chosen.latency or chosen.latency[0].faster_than_fp32 is None:
        return None
    ratio = chosen.latency[0].faster_than_fp32
    state = _state(ratio.value >= budget.speedup, ratio.high >= budget.speedup)
    return state, (
        f"{state}: {ratio.value:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}] faster than the same runtime's FP32 original "
        f"at batch {chosen.latency[0].batch_size}, at least {budget.speedup:g}x asked"
    )


def _size_line(chosen: Row, reference: Row, budget: Budget) -> tuple[str, str] | None:
    if budget.size_ratio is None or not chosen.size_bytes or not reference.size_bytes:
        return None
    ratio = chosen.size_bytes / reference.size_bytes
    state = _state(ratio <= budget.size_ratio, False)
    return (
        state,
        f"{state}: {ratio:.2f}x the bytes of the same runtime's FP32 original, at most {budget.size_ratio:g}x allowed",
    )


def _state(kept: bool, possible: bool) -> str:
    return "kept" if kept else "undecided" if possible else "missed"
