"""What `compress bench BUNDLE` brought back from a device (`benchmarks.device.measure`), as a value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from benchmarks.device.golden import Selftest
from benchmarks.device.measure import SCHEMA
from benchmarks.measurements import Footprint, Interval, Latency
from benchmarks.report import Row
from benchmarks.stability import unstable
from export.errors import InputError
from export.files import write_whole

HALF_WIDTH_LIMIT = 0.05
"""Above this half-width of the A/A interval no speed is claimed; as a report's `half_width_limit`."""


@dataclass(frozen=True)
class BundleName:
    """Which bundle; `digest` is the sha256 of its manifest, and so of all of it."""

    name: str
    digest: str


@dataclass(frozen=True)
class DeviceReport:
    """One bundle on one device.

    Args:
        label: what the device is called; never a host's or user's name.
        files: of the engine: name in the bundle -> sha256.
        control: batch size -> the engine against itself (A/A).
        findings: what is wrong with the engine's answers.
        warnings: heat, throttling, emulation: why the times may not be those of the next run.
        first_token: of a model that writes, whose `latency` is of whole answers.
        machine: its fingerprint, and under "state" what it did before; `state_after` what it did after.
    """

    schema: Literal["edge-compress device 1"]
    created: str
    label: str
    bundle: BundleName
    files: Mapping[str, str]
    target: str
    scheme: str
    protocol: Mapping[str, Any]
    latency: tuple[Latency, ...]
    control: Mapping[int, Interval]
    footprint: Footprint
    selftest: Selftest
    findings: tuple[str, ...]
    warnings: tuple[str, ...]
    machine: Mapping[str, Any]
    state_after: Mapping[str, Any]
    versions: Mapping[str, str]
    first_token: tuple[Latency, ...] = ()

    @property
    def emulated(self) -> bool:
        return "emulated_by" in self.machine

    def unstable(self, batch_size: int) -> str | None:
        """Why no speed may be claimed at a batch size; None where it may."""
        if self.emulated:
            return "the processor is emulated"
        latency = next(each for each in self.latency if each.batch_size == batch_size)
        again = replace(latency, faster_than_fp32=self.control[batch_size])
        return unstable(Row(self.target, "", "", "control", "measured", latency=(again,)), HALF_WIDTH_LIMIT)

    def write(self, path: Path) -> None:
        """Write the JSON whole or not at all."""
        write_whole(path, (json.dumps(asdict(self), indent=1, allow_nan=False) + "\n").encode())


def is_device_report(path: Path) -> bool:
    """Whether a path that `compress compare` was given is a device's report and not a run's."""
    return path.is_file() and SCHEMA.encode() in path.read_bytes()[:200]


def read_device_report(path: Path) -> DeviceReport:
    """Read the file that `compress bench BUNDLE` wrote.

    Raises:
        InputError: if it is not one.
    """
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read as JSON ({error}); run `compress bench BUNDLE --on ADDRESS`"
        ) from error
    return device_report(value, str(path))


def device_report(value: Any, where: str) -> DeviceReport:
    """Plain values, checked.

    Raises:
        InputError: if they are not a device's report of this schema.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(DeviceReport).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "top level"
        raise InputError(
            f"{where}: not a report of a device: {place}: {first['msg']}; measure the bundle again"
        ) from error
