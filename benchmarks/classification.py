"""What a classifier's per-sample rows tell: discordant pairs, classes before and after, calibration, a constant answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from benchmarks.measurements import Interval
from benchmarks.report import ClassScore, McNemar

BINS = 15
SIGNIFICANT = 0.01
"""Level of a claim that something is broken."""


def mcnemar(before: np.ndarray, after: np.ndarray) -> McNemar:
    """Exact McNemar test of two models on the same samples.

    Args:
        before, after: whether each sample is predicted right, bool, shape (samples,).
    """
    lost, gained = int(np.sum(before & ~after)), int(np.sum(~before & after))
    return McNemar(lost, gained, discordant_p(lost, gained))


def discordant_p(lost: int, gained: int) -> float:
    """Two-sided p-value of `lost` against `gained` discordant pairs, where each falls either way with chance 1/2.

    Twice the binomial tail up to the smaller count, summed in logs: 2 ** -10000 is no float.
    """
    pairs, fewer = lost + gained, min(lost, gained)
    steps = np.arange(1, fewer + 1)
    log_choices = np.concatenate([[0.0], np.cumsum(np.log(pairs - steps + 1) - np.log(steps))])
    largest = float(log_choices.max())
    log_tail = largest + math.log(float(np.exp(log_choices - largest).sum())) - pairs * math.log(2.0)
    return min(1.0, math.exp(min(0.0, log_tail + math.log(2.0))))


def class_scores(before: np.ndarray, after: np.ndarray, names: Sequence[str] = ()) -> tuple[ClassScore, ...]:
    """Each true class by itself, in the order of the labels.

    Args:
        before, after: rows (predicted class, true class, ...) of the same samples, shape (samples, k).
        names: of the classes 0, 1, ...; the label's number stands where there is none.
    """
    truth = before[:, 1]
    right_before, right_after = before[:, 0] == truth, after[:, 0] == truth
    labels = np.unique(truth)
    return tuple(
        _class_score(
            class_name(label, names), right_before[truth == label], right_after[truth == label], classes=len(labels)
        )
        for label in labels
    )


def class_name(label: float, names: Sequence[str] = ()) -> str:
    """The class's name, or its number."""
    known = float(label).is_integer() and 0 <= label < len(names)
    return names[int(label)] if known else f"{label:g}"


def _class_score(name: str, before: np.ndarray, after: np.ndarray, classes: int) -> ClassScore:
    test = mcnemar(before, after)
    # Over all classes together (Bonferroni), so that the worst of many may be picked out and judged by its interval.
    difference = paired_share_difference(
        both=int(np.sum(before & after)),
        lost=test.lost,
        gained=test.gained,
        samples=len(before),
        level=1 - 0.05 / classes,
    )
    return ClassScore(name, len(before), float(before.mean()), float(after.mean()), test.p_value, difference)


def paired_share_difference(both: int, lost: int, gained: int, samples: int, level: float = 0.95) -> Interval:
    """The share right after minus the share right before, on the same samples.

    Args:
        both: right before and after; lost: right before only; gained: right after only.

    Source: Newcombe 1998, doi:10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C, method 10: Wilson's
    interval of each share, put together with the correlation of the two.
    """
    neither = samples - both - lost - gained
    before, after = both + lost, both + gained
    value = (after - before) / samples
    (low1, high1), (low2, high2) = (_wilson(count, samples, level) for count in (after, before))
    margins = after * (samples - after) * before * (samples - before)
    agreement = both * neither - lost * gained
    corrected = max(agreement - samples / 2, 0) if agreement > 0 else agreement
    correlation = corrected / math.sqrt(margins) if margins else 0.0
    share1, share2 = after / samples, before / samples
    below = _correlated(share1 - low1, high2 - share2, correlation)
    above = _correlated(high1 - share1, share2 - low2, correlation)
    return Interval(value, value - below, value + above)


def worst_class(classes: Sequence[ClassScore]) -> ClassScore | None:
    """The class with the largest loss of samples predicted right; None where there are no classes."""
    return max(classes, key=lambda found: found.before - found.after, default=None)


def broken_classes(classes: Sequence[ClassScore]) -> tuple[ClassScore, ...]:
    """Classes that lost at least half of what was right, beyond chance; the worst first.

    Beyond chance: McNemar's p-value with Holm's correction for the number of classes.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    ordered = sorted(classes, key=lambda found: found.p_value)
    beyond_chance = []
    for index, found in enumerate(ordered):
        if found.p_value > SIGNIFICANT / (len(ordered) - index):
            break
        beyond_chance.append(found)
    broken = [found for found in beyond_chance if found.before > 0 and found.after <= found.before / 2]
    return tuple(sorted(broken, key=lambda found: found.after - found.before))


def calibration_error(right: np.ndarray, probability: np.ndarray) -> float:
    """Expected calibration error: how far the probabilities given are from the shares that are right, in [0, 1].

    Args:
        right: whether each sample is predicted right, bool, shape (samples,).
        probability: of the predicted class, in [0, 1], shape (samples,).

    Source: Naeini et al. 2015; with 15 bins of equal width as in Guo et al. 2017, arXiv:1706.04599, section 2.
    """
    bins = np.clip(np.ceil(probability * BINS).astype(np.int64) - 1, 0, BINS - 1)  # each open below, closed above
    gaps = np.bincount(bins, weights=right, minlength=BINS) - np.bincount(bins, weights=probability, minlength=BINS)
    return float(np.abs(gaps).sum() / len(right))


def constant_class(before: np.ndarray, after: np.ndarray) -> float | None:
    """The class that every sample is given, where the original tells them apart.

    Args:
        before, after: the predicted classes of the same samples, shape (samples,).

    That a model gives a rare class to no sample any more is no proof: the original must give another class to enough
    samples that all of them flipping one way is beyond chance.
    """
    if len(after) == 0 or (after != after[0]).any():
        return None
    flipped = int(np.sum(before != after[0]))
    return float(after[0]) if discordant_p(flipped, 0) <= SIGNIFICANT else None


def _wilson(count: int, samples: int, level: float) -> tuple[float, float]:
    """Interval of a share. Source: Wilson 1927, doi:10.1080/01621459.1927.10502953."""
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share, squared = count / samples, z * z / samples
    middle = (share + squared / 2) / (1 + squared)
    half = z / (1 + squared) * math.sqrt(share * (1 - share) / samples + squared / (4 * samples))
    return max(0.0, middle - half), min(1.0, middle + half)


def _correlated(one: float, other: float, correlation: float) -> float:
    return math.sqrt(max(0.0, one * one - 2 * correlation * one * other + other * other))
