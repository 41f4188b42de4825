"""How figures are spelled, the same in the terminal, in Markdown and in HTML: digits, units, intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.measurements import Interval, Latency
from benchmarks.report import Report

MISSING = "–"
"""Stands where there is no figure."""

_SHARES = ("accuracy", "f1", "precision", "recall", "iou", "dice", "rouge")
_ERROR_RATES = ("wer", "cer")

DIGITS = 4
"""Significant digits of a metric that is no share."""
UNREADABLE = 1e7
"""From here on a figure is told as a power of ten: the perplexity of a broken engine has up to 300 digits."""


@dataclass(frozen=True)
class MetricWording:
    """How one report's metric is spelled: a share as percent and percentage points, anything else as it is.

    Args:
        decimals: of a change of anything else: as many as a value has, so that an error of 0.00052 moves by 0.0000310
            and BLEU by 0.31.
    """

    name: str
    percent: bool
    decimals: int = DIGITS

    @classmethod
    def of(cls, report: Report) -> MetricWording:
        """Percent if the metric is named as a share and every value of it lies in [0, 1]."""
        scores = [score for row in report.rows for score in (row.validation, row.evaluation) if score]
        return cls.of_values(report.metric, [score.value for score in scores])

    @classmethod
    def of_values(cls, metric: str, values: Sequence[float]) -> MetricWording:
        """The same from the metric's name and some values of it, the original's first where it is among them."""
        named = metric in _ERROR_RATES or any(share in metric.lower() for share in _SHARES)
        return cls(metric, named and all(0 <= value <= 1 for value in values), _decimals(values[0] if values else 1.0))

    @property
    def unit(self) -> str:
        """Of a value, with its leading space: " %" or nothing."""
        return " %" if self.percent else ""

    @property
    def difference_unit(self) -> str:
        """Of a difference, with its leading space: " pp" (percentage points) or nothing."""
        return " pp" if self.percent else ""

    @property
    def scale(self) -> float:
        """From the metric's own unit to the one shown."""
        return 100.0 if self.percent else 1.0

    def value(self, value: float) -> str:
        """0.9742 -> '97.42'."""
        return f"{100 * value:.2f}" if self.percent else significant(value, DIGITS)

    def change(self, change: float) -> str:
        """A signed difference, without its interval: -0.0031 -> '−0.31'."""
        return signed(100 * change, 2) if self.percent else signed(change, self.decimals)

    def limit(self, limit: float) -> str:
        """A difference that is allowed, as the recipe has it but in the unit shown: 0.01 -> '1.00', of no share '0.01'."""
        return self.value(limit) if self.percent else f"{limit:.{DIGITS}g}"

    def difference(self, difference: Interval | None) -> str:
        """A signed difference with its interval: '−0.31 [−0.62, +0.01]'."""
        if difference is None:
            return MISSING
        ends = f"[{self.change(difference.low)}, {self.change(difference.high)}]"
        return f"{self.change(difference.value)} {ends}"


def significant(value: float, digits: int = 3) -> str:
    """Plain notation with `digits` significant digits, never fewer than the digits before the point."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) >= UNREADABLE:
        return f"{value:.{digits - 1}e}".replace("-", "−")
    rounded = float(f"{value:.{digits - 1}e}")
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    return f"{rounded:.{decimals}f}".replace("-", "−") if decimals else f"{value:.0f}".replace("-", "−")


def signed(value: float, decimals: int) -> str:
    """With '+' or a true minus; what rounds to zero has neither."""
    text = f"{value:+.{decimals}f}" if abs(value) < UNREADABLE else f"{value:+.2e}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def milliseconds(seconds: float | None) -> str:
    """Three significant digits, without the unit: 0.000523 -> '0.523'."""
    return MISSING if seconds is None else significant(1000 * seconds)


def ratio(interval: Interval | None, with_interval: bool = True) -> str:
    """'2.41x [2.38, 2.45]'."""
    if interval is None:
        return MISSING
    value = f"{times(interval.value)}x"
    return f"{value} [{times(interval.low)}, {times(interval.high)}]" if with_interval else value


def times(value: float) -> str:
    """A ratio with two decimals below ten, fewer above: '2.41', '12.4'."""
    return f"{value:.2f}" if value < 10 else significant(value)


def share(value: float | None) -> str:
    """Percent without the unit: 0.0123 -> '1.23'."""
    return MISSING if value is None else f"{100 * value:.2f}"


def p_value(value: float) -> str:
    """Two significant digits: 0.0321 -> '0.032'; below one in ten thousand only that."""
    return "< 0.0001" if value < 0.0001 else significant(value, 2)


def percent_change(now: float, before: float) -> str:
    """'−43 %', or an empty text where there is nothing to compare with."""
    return f"{signed(100 * (now / before - 1), 0)} %" if before else ""


def byte_size(size: int | None) -> str:
    """Decimal units: 92_412 -> '92.4 KB'."""
    if size is None:
        return MISSING
    if size < 1000:
        return f"{size} B"
    return f"{_scaled(size)}B"


def count(number: float | None) -> str:
    """Parameters and MACs: 855_770 -> '856 K'; exact below ten thousand."""
    if number is None:
        return MISSING
    return f"{number:.0f}" if number < 10_000 else _scaled(number)


def duration(seconds: float) -> str:
    """'0.42 s', '3 min 20 s', '1 h 02 min'."""
    if seconds < 60:
        return f"{significant(seconds, 2)} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def working_point(latency: Latency) -> str:
    """What a latency was measured on: 'batch 1, length 64, 1 thread'."""
    sizes = [f"{axis} {size}" for axis, size in latency.sizes.items()]
    threads = f"{latency.threads} thread{'' if latency.threads == 1 else 's'}"
    return ", ".join([f"batch {latency.batch_size}", *sizes, threads])


def direction_notes(metric: str, higher_is_better: bool) -> tuple[str, ...]:
    """A sentence where the direction is not the one that a reader expects."""
    return () if higher_is_better else (f"{metric}: lower is better.",)


def _decimals(value: float) -> int:
    """Of a value with DIGITS significant digits: 2 for 31.42, 7 for 0.0005231."""
    if value == 0 or not math.isfinite(value):
        return DIGITS
    return max(0, DIGITS - 1 - math.floor(math.log10(abs(value))))


def _scaled(number: float) -> str:
    prefixes = (" ", " K", " M", " G", " T")
    rounded = float(f"{number:.2e}")
    power = min(int(math.log10(rounded)) // 3, len(prefixes) - 1)
    return f"{significant(rounded / 1000**power)}{prefixes[power]}"
