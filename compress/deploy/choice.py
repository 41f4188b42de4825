"""Choosing what ships, on validation data, and whether measuring afresh confirms it. Pure functions over measured values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.measurements import Interval
from benchmarks.render.wording import ratio, significant
from benchmarks.report import Score
from compress.recipe_settings import Budget

ROUNDING = 1e-9
"""A drop of 3 in 60 samples is 0.05 and a little in floating point."""

ORIGINAL = "original"
"""Stands for the original in FP32 where schemes are named."""


@dataclass(frozen=True)
class Ratios:
    """How many times faster an engine is, by batch size, the recipe's first one first; empty against itself.

    Args:
        over_fp32: than the same final model in the same runtime's FP32, measured beside it.
        over_original: than the original in the same runtime's FP32.
    """

    over_fp32: Mapping[int, Interval]
    over_original: Mapping[int, Interval] = field(default_factory=dict)

    @property
    def slower(self) -> str | None:
        """Where the engine is slower than FP32, beyond the measuring interval; None where nowhere."""
        found = [
            f"than {words} at batch {size}: {ratio(interval)}"
            for words, intervals in (("FP32", self.over_fp32), ("the original in FP32", self.over_original))
            for size, interval in intervals.items()
            if interval.high < 1.0
        ]
        return f"slower {found[0]}" if found else None


@dataclass(frozen=True)
class Trial:
    """One scheme of the final model, measured on validation data.

    Args:
        drop: loss of the metric against the original, positive where it is worse.
        findings: what is wrong with its answers, a sentence each; a scheme that has one never ships.
        size_ratio: its bytes over those of the original in the same runtime's FP32; None where it is not known.
    """

    scheme: str
    drop: float
    ratios: Ratios
    findings: tuple[str, ...] = ()
    size_ratio: float | None = None

    @property
    def gain(self) -> Interval:
        """Over the final model in FP32 at the recipe's first batch size."""
        return next(iter(self.ratios.over_fp32.values()))


def drop_of(score: Score, higher_is_better: bool) -> float:
    """Loss of the metric against the original; negative where the metric got better."""
    if score.difference is None:
        return 0.0
    return -score.difference.value if higher_is_better else score.difference.value


def lost_before(fp32_drop: float, limit: float | None) -> float:
    """The drop that is not held against a scheme.

    Where the final model in FP32 itself misses the budget, the steps before have spent it, not the schemes: these are
    then held to the same limit against that model.
    """
    return fp32_drop if limit is not None and fp32_drop > limit + ROUNDING else 0.0


def choose(trials: Sequence[Trial], fp32: str, budget: Budget) -> tuple[str, str]:
    """The scheme that ships, or ORIGINAL, and why.

    The fastest scheme that keeps the metric within the budget on validation data, whose 95 % interval is wholly faster
    than the same model in FP32 at the recipe's first batch size, and nowhere wholly slower than that or than the original
    in FP32; of these one that keeps the budget's bytes goes before one that does not. Where there is none, FP32; where that
    is slower than the original, the original.

    Args:
        trials: every scheme that ran, FP32 among them.
        fp32: name of the FP32 scheme.
    """
    plain = next(trial for trial in trials if trial.scheme == fp32)
    best, why = _best_scheme([trial for trial in trials if trial is not plain], plain, budget)
    if best is not None:
        return best, why
    if slower := plain.ratios.slower:
        return ORIGINAL, f"{why}; the final model in FP32 is {slower}, so that the original in FP32 ships"
    return fp32, why


def _best_scheme(others: Sequence[Trial], fp32: Trial, budget: Budget) -> tuple[str | None, str]:
    """The scheme that earns its place, and why; None and why there is none."""
    limit = budget.metric_drop
    spent = lost_before(fp32.drop, limit)
    sound = [trial for trial in others if not trial.findings]
    accurate = [trial for trial in sound if limit is None or trial.drop - spent <= limit + ROUNDING]
    never_slower = [trial for trial in accurate if not trial.ratios.slower]
    faster = [trial for trial in never_slower if trial.gain.low > 1.0]
    against = f" (held against the final model in FP32, which itself loses {significant(spent)} there)" if spent else ""
    if faster:
        small = [trial for trial in faster if _is_small(trial, budget)]
        fastest, best = (max(found, key=lambda trial: trial.gain.value) for found in (faster, small or faster))
        larger = ""
        if best is not fastest:
            larger = (
                f"; {fastest.scheme} is faster ({ratio(fastest.gain)} over FP32, {best.scheme} {ratio(best.gain)}) and takes "
                f"{fastest.size_ratio:.2f}x the bytes of the original in FP32, at most {budget.size_ratio:g}x allowed"
            )
        why = f"fastest of {len(others) + 1} schemes inside the budget on validation data{against}{larger}"
        return best.scheme, why
    if not others:
        return None, "no other scheme was offered or could be built"
    if not sound:
        return None, f"the answers of every other scheme are wrong: {others[0].scheme}: {others[0].findings[0]}"
    if not accurate:
        least = min(sound, key=lambda trial: trial.drop)
        return None, (
            f"every faster scheme lost more than {limit:.3g} on validation data{against}; "
            f"the best, {least.scheme}, {significant(least.drop - spent)}"
        )
    quickest = max(never_slower or accurate, key=lambda trial: trial.gain.value)
    if not never_slower:
        return (
            None,
            f"every accurate scheme is slower at some batch size: {quickest.scheme} is {quickest.ratios.slower}",
        )
    return None, (
        f"no accurate scheme beat FP32 beyond the measuring interval (best {quickest.gain.value:.2f}x, "
        f"from {quickest.gain.low:.2f}x)"
    )


def _is_small(trial: Trial, budget: Budget) -> bool:
    return budget.size_ratio is None or trial.size_ratio is None or trial.size_ratio <= budget.size_ratio


def confirm(chosen: str, fp32: str, afresh: Mapping[str, Ratios]) -> tuple[str, str | None]:
    """What ships after measuring afresh, and why if it is not what was chosen.

    What turns out wholly slower than FP32 gives way to the final model in FP32, and that to the original.

    Args:
        chosen: name of a scheme, or ORIGINAL.
        afresh: the ratios of what was chosen and of the final model in FP32, by name.
    """
    told: list[str] = []
    if chosen != fp32 and (slower := afresh[chosen].slower):
        told.append(f"measured afresh, {chosen} is {slower}, so that the final model in FP32 ships")
        chosen = fp32
    if chosen == fp32 and (slower := afresh[fp32].slower):
        told.append(f"measured afresh, the final model in FP32 is {slower}, so that the original in FP32 ships")
        chosen = ORIGINAL
    return chosen, "; ".join(told) or None
