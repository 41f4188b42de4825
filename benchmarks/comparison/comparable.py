"""What of two runs may be compared: what differs between their machines, runtimes, working points and evaluation data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from benchmarks.machine import STATE
from benchmarks.render.tables import main_point
from benchmarks.render.wording import working_point
from benchmarks.report import Report
from benchmarks.stability import unstable

RUNTIME_LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "openvino": ("openvino",),
    "onnxruntime_mobile": ("onnxruntime",),
    "tensorrt": ("tensorrt", "tensorrt-rtx"),
}
"""Target -> the distributions whose version decides its latency; for a target not named here every version does."""


class Measured(Protocol):
    """What tells on which machine and with which versions it was measured: a run's report, or a device's."""

    @property
    def machine(self) -> Mapping[str, Any]: ...

    @property
    def versions(self) -> Mapping[str, str]: ...


def machine_differences(one: Measured, other: Measured) -> tuple[str, ...]:
    """What differs between the two machines, in words."""
    lasting = ({key: value for key, value in report.machine.items() if key != STATE} for report in (one, other))
    return tuple(_differing(*lasting))


def runtime_differences(one: Measured, other: Measured, target: str) -> tuple[str, ...]:
    """Which libraries that decide a target's latency differ, in words."""
    known = RUNTIME_LIBRARIES.get(target, (*one.versions, *other.versions))
    versions = [{name: report.versions[name] for name in known if name in report.versions} for report in (one, other)]
    return tuple(_differing(*versions))


def point_differences(one: Report, other: Report) -> tuple[str, ...]:
    """The two main working points, where they are not the same."""
    points = [main_point(report) for report in (one, other)]
    words = [working_point(point) if point else "" for point in points]
    return () if words[0] == words[1] or not all(words) else (f"{words[0]} → {words[1]}",)


def metric_differences(one: Report, other: Report) -> tuple[str, ...]:
    """What differs of the metric, the number of evaluation samples and the evaluation data, in words."""
    facts = [_metric_facts(report) for report in (one, other)]
    return tuple(_differing(*facts))


def same_evaluation_data(one: Report, other: Report) -> bool:
    """Both say by hash that they were measured on the same evaluation data."""
    hashes = [_evaluation_hashes(report) for report in (one, other)]
    return bool(hashes[0]) and hashes[0] == hashes[1]


def unsteadiness(report: Report, target: str) -> str | None:
    """Why no speed of this run may be claimed on a target; None where it may, or where no A/A row says so."""
    control = report.control(target)
    return unstable(control, report.half_width_limit) if control else None


def _metric_facts(report: Report) -> dict[str, Any]:
    samples = {row.evaluation.samples for row in report.rows if row.evaluation}
    return {"metric": report.metric, "evaluation samples": sorted(samples), **_evaluation_hashes(report)}


def _evaluation_hashes(report: Report) -> dict[str, str]:
    return {name: digest for name, digest in report.hashes.items() if "evaluation" in name}


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterable[str]:
    for key in dict.fromkeys((*one, *other)):
        before, now = one.get(key), other.get(key)
        if isinstance(before, (list, tuple)) and isinstance(now, (list, tuple)):
            gone, new = ([str(x) for x in xs if x not in ys] for xs, ys in ((before, now), (now, before)))
            changes = [f"{word} {', '.join(names)}" for word, names in (("without", gone), ("with", new)) if names]
            if changes:
                yield f"{key} {' and '.join(changes)}"
        elif before != now:
            yield f"{key} {'absent' if before is None else before} → {'absent' if now is None else now}"
