"""What each layer costs when it alone is pruned or quantized, as plain values: made by `compress sensitivity`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.measurements import Interval
from benchmarks.report import write_text_whole

SILENT_DB = 200.0
"""Stands for no noise at all."""
RESAMPLES = 500


@dataclass(frozen=True)
class LayerCost:
    """One layer alone changed, the rest as the original.

    Args:
        layer: the module's path where it is known, else the node's name.
        change: "a quarter", "half", or the operator that runs in 8 bits.
        signal_to_noise_db: of the model's output; lower is worse. 95 % interval over the samples.
        metric_change: of the metric on the same samples, paired.
        rank: the first and the last place, 1 for the worst, that its interval allows among the layers of its section.
    """

    layer: str
    change: str
    signal_to_noise_db: Interval
    metric_change: Interval
    rank: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Section:
    """One kind of change for every layer, the worst first."""

    title: str
    costs: tuple[LayerCost, ...]

    @property
    def doubt(self) -> str | None:
        """A sentence where the samples do not tell the worst layer from others."""
        if len(self.costs) < 2 or self.costs[0].rank == (1, 1):
            return None
        return f"{self.title}: the samples do not tell which layer is the worst; give more with --samples"


@dataclass(frozen=True)
class Sensitivity:
    """All of one recipe. `notes` say what was left out, and why."""

    name: str
    metric: str
    metric_value: float
    samples: int
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()
    duration_s: float = 0.0

    def write(self, path: Path) -> None:
        write_text_whole(path, json.dumps(asdict(self), indent=1, allow_nan=False) + "\n")


def signal_to_noise_db(wanted: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    """10 log10 of the wanted outputs' energy over that of the difference; SILENT_DB where there is none.

    Args:
        wanted, found: an array a batch, the sample as first axis; other axes may differ between batches, as lengths do.
    """
    signal, noise = _energies(wanted, found)
    return float(_decibels(signal.sum(), noise.sum()))


def signal_to_noise(wanted: Sequence[np.ndarray], found: Sequence[np.ndarray], seed: int = 0) -> Interval:
    """The same with its 95 % interval: a bootstrap over the samples."""
    signal, noise = _energies(wanted, found)
    rows = np.random.default_rng(seed).integers(len(signal), size=(RESAMPLES, len(signal)))
    low, high = np.quantile(_decibels(signal[rows].sum(axis=1), noise[rows].sum(axis=1)), [0.025, 0.975])
    return Interval(float(_decibels(signal.sum(), noise.sum())), float(low), float(high))


def ranked(costs: Sequence[LayerCost]) -> tuple[LayerCost, ...]:
    """The worst first, each with the places that the intervals allow."""
    ordered = sorted(costs, key=lambda cost: cost.signal_to_noise_db.value)
    intervals = [cost.signal_to_noise_db for cost in ordered]
    return tuple(
        LayerCost(
            cost.layer,
            cost.change,
            mine,
            cost.metric_change,
            (
                1 + sum(other.high < mine.low for other in intervals),
                max(1, len(intervals) - sum(other.low > mine.high for other in intervals)),
            ),
        )
        for cost, mine in zip(ordered, intervals, strict=True)
    )


def _energies(wanted: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Of the outputs and of the difference, each of shape (samples,)."""
    noise = [_energy(after - before) for before, after in zip(wanted, found, strict=True)]
    return np.concatenate([_energy(batch) for batch in wanted]), np.concatenate(noise)


def _energy(values: np.ndarray) -> np.ndarray:
    """Of each sample, shape (samples,)."""
    return np.asarray(np.square(values.astype(np.float64)).reshape(len(values), -1).sum(axis=1))


def _decibels(signal: np.ndarray, noise: np.ndarray) -> np.ndarray:
    tiny = np.finfo(float).tiny
    ratio = np.log10(np.maximum(signal, tiny)) - np.log10(np.maximum(noise, tiny))
    return np.asarray(np.minimum(SILENT_DB, 10 * ratio))
