"""What `compress bench BUNDLE` prints at the end."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.comparison.device_report import DeviceReport
from benchmarks.stability import crowded


def result_lines(report: DeviceReport) -> Iterable[str]:
    """What was measured and whether it may be claimed. Its figures and other warnings were told by the runner."""
    machine = report.machine
    facts = [machine[name] for name in ("architecture", "governor") if name in machine]
    yield f"{report.label} ({', '.join(facts)}): {report.bundle.name}, {report.target} ({report.scheme})"
    yield from _sensors(report)
    for latency in report.latency:
        if why := report.unstable(latency.batch_size):
            yield f"batch {latency.batch_size}: no speed is claimed: {why}"
    if neighbours := crowded(latency.elsewhere_cores for latency in report.latency):
        yield f"warning: {neighbours}"


def _sensors(report: DeviceReport) -> Iterable[str]:
    before, after = (
        report.machine.get("state", {}).get("temperatures_c", {}),
        report.state_after.get("temperatures_c", {}),
    )
    if after:
        name = max(after, key=after.__getitem__)
        was = f"{before[name]:.0f} °C before, " if name in before else ""
        yield f"hottest sensor, {name}: {was}{after[name]:.0f} °C after"
    else:
        yield "temperature: the device tells none"
