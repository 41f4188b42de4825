"""Desk and device side by side: what each measured of one artifact, marked by machine, and no verdict between machines."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.comparison.comparable import machine_differences, runtime_differences, unsteadiness
from benchmarks.comparison.device_report import DeviceReport
from benchmarks.measurements import Footprint, Interval, Latency
from benchmarks.render.tables import Line, Table
from benchmarks.render.wording import MISSING, byte_size, milliseconds
from benchmarks.report import Report
from export.errors import InputError

Digests = Mapping[str, frozenset[str]]
"""Target -> sha256 of every file that a run made for it."""


@dataclass(frozen=True)
class Desk:
    """A run, by the folder that it was given as."""

    name: str
    report: Report
    made: Digests


@dataclass(frozen=True)
class Measurement:
    """One artifact on one machine at one batch size. `steady` is the A/A row's word: None where it is steady."""

    latency: Latency
    control: Interval | None
    unsteady: str | None
    footprint: Footprint | None


@dataclass(frozen=True)
class Machine:
    """What one machine measured; `kind` is "desk", "device" or "emulated"."""

    name: str
    kind: str
    artifact: str
    measurements: tuple[Measurement, ...]


@dataclass(frozen=True)
class SideBySide:
    """Machines in the order given, and sentences.

    Args:
        same: what is known to be the same artifact.
        refusals: what is not compared, and why.
        warnings: what the devices say of their own times.
        worse: answers that are wrong on a device.
    """

    machines: tuple[Machine, ...]
    same: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    worse: tuple[str, ...] = field(default=())

    @property
    def title(self) -> str:
        return " · ".join(machine.name for machine in self.machines)


def side_by_side(desks: Sequence[Desk], devices: Sequence[tuple[str, DeviceReport]]) -> SideBySide:
    """Runs and devices together.

    Args:
        devices: each with the name of its file.

    Raises:
        InputError: if no run has anything on a device's target.
    """
    for desk in desks:
        for name, device in devices:
            row = desk.report.chosen(device.target)
            if row is None or not row.files:
                raise InputError(
                    f"{desk.name}: ships nothing for {device.target}, which {name} was measured on; it does for "
                    f"{', '.join(desk.report.targets) or 'none'}"
                )
    names = _names([device.label for _, device in devices])
    targets = list(dict.fromkeys(device.target for _, device in devices))
    labelled = list(zip(names, (device for _, device in devices), strict=True))
    return SideBySide(
        machines=(
            *(_desk(desk, target, len(targets) > 1) for desk in desks for target in targets),
            *(_device(name, device) for name, device in labelled),
        ),
        same=tuple(_same(desks, labelled)),
        refusals=tuple(dict.fromkeys(_refusals(desks, labelled))),
        warnings=tuple(f"{name}: {warning}" for name, device in labelled for warning in device.warnings),
        worse=tuple(f"{name}: {finding}" for name, device in labelled for finding in device.findings),
    )


def made_digests(run: Path, report: Report) -> Digests:
    """sha256 of what lies in the folders of a run's artifacts: files for other platforms stand in no report."""
    found = {}
    for target in report.targets:
        row = report.chosen(target)
        folders = {(run / file).parent for file in row.files} if row else set()
        made = {_sha256(file) for folder in folders if folder.is_dir() for file in folder.iterdir() if file.is_file()}
        found[target] = frozenset(made | set(row.files.values() if row else ()))
    return found


def side_by_side_table(found: SideBySide) -> Table:
    """A heading a machine, under it a line a batch size."""
    headers = ("machine", "ships", "batch", "median\nms", "A/A", "load\nms", "first run\nms", "peak\nmemory")
    lines: list[Line] = []
    for machine in found.machines:
        lines.append(Line((f"{machine.kind}: {machine.name}",), "heading"))
        lines += [Line(_cells(machine, each)) for each in machine.measurements]
        if not machine.measurements:
            lines.append(Line(("  not timed", machine.artifact, *[MISSING] * (len(headers) - 2)), "dim"))
    notes = (
        "Different machines: no speed-up of one over another is claimed; each line is true of its own machine.",
        "A/A: the artifact against itself on that machine (a run: its FP32 reference); it should hold 1.",
    )
    return Table("Desk and device", headers, tuple(lines), 2, optional=(7, 5, 6), notes=notes)


def _cells(machine: Machine, found: Measurement) -> tuple[str, ...]:
    control, footprint = found.control, found.footprint
    told = MISSING if control is None else f"{control.value:.3f} [{control.low:.3f}, {control.high:.3f}]"
    state = "unsteady" if found.unsteady else "steady"
    return (
        f"  {'emulated, no speed' if machine.kind == 'emulated' else state}",
        machine.artifact,
        str(found.latency.batch_size),
        milliseconds(found.latency.median_s),
        told,
        milliseconds(footprint.load_s if footprint else None),
        milliseconds(footprint.first_inference_s if footprint else None),
        byte_size(footprint.peak_bytes if footprint else None),
    )


def _desk(desk: Desk, target: str, tell_target: bool) -> Machine:
    row, control = desk.report.chosen(target), desk.report.control(target)
    assert row is not None
    again = control.latency[0].faster_than_fp32 if control and control.latency else None
    unsteady = unsteadiness(desk.report, target)
    name = f"{desk.name} on {desk.report.machine.get('cpu', 'an unknown CPU')}"
    return Machine(
        f"{name}, {target}" if tell_target else name,
        "desk",
        f"{target} {row.scheme}",
        tuple(Measurement(latency, again, unsteady, row.footprint) for latency in row.latency),
    )


def _device(name: str, device: DeviceReport) -> Machine:
    return Machine(
        name,
        "emulated" if device.emulated else "device",
        f"{device.target} {device.scheme}",
        tuple(
            Measurement(each, device.control.get(each.batch_size), device.unstable(each.batch_size), device.footprint)
            for each in device.latency
        ),
    )


def _same(desks: Sequence[Desk], devices: Sequence[tuple[str, DeviceReport]]) -> Iterable[str]:
    for desk in desks:
        for name, device in devices:
            if _of_run(desk, device):
                yield f"{name} ran the artifact of {desk.name}, byte for byte ({_engine(device)})"
    for first, one in devices[:1]:
        for name, other in devices[1:]:
            if other.bundle.digest == one.bundle.digest:
                yield f"{name} ran the same bundle as {first} ({one.bundle.digest[:12]})"


def _refusals(desks: Sequence[Desk], devices: Sequence[tuple[str, DeviceReport]]) -> Iterable[str]:
    for desk in desks:
        for name, device in devices:
            pair = f"{name} against {desk.name}"
            if not _of_run(desk, device):
                yield f"{pair}: the device ran another artifact ({_engine(device)}): the figures are of two models"
            yield from _apart(pair, desk.report, device, device.target)
    for first, one in devices[:1]:
        for name, other in devices[1:]:
            pair = f"{name} against {first}"
            if other.bundle.digest != one.bundle.digest:
                yield f"{pair}: two bundles ({other.bundle.digest[:12]} and {one.bundle.digest[:12]})"
            yield from _apart(pair, one, other, one.target)


def _apart(pair: str, one: Report | DeviceReport, other: DeviceReport, target: str) -> Iterable[str]:
    if found := machine_differences(one, other):
        yield f"{pair}: speed is not compared, the machines differ: {'; '.join(found)}"
    else:
        yield f"{pair}: the same machine, but not measured side by side: speed is not compared"
    if found := runtime_differences(one, other, target):
        yield f"{pair}: the runtimes differ: {'; '.join(found)}"


def _of_run(desk: Desk, device: DeviceReport) -> bool:
    return set(device.files.values()) <= desk.made.get(device.target, frozenset())


def _engine(device: DeviceReport) -> str:
    return ", ".join(f"{name} {digest[:12]}" for name, digest in list(device.files.items())[:1])


def _names(labels: Sequence[str]) -> list[str]:
    """The labels; numbered where two are alike."""
    return [
        label if labels.count(label) == 1 else f"{label} #{labels[: index + 1].count(label)}"
        for index, label in enumerate(labels)
    ]


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
