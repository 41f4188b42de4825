"""`compress bench BUNDLE --on ADDRESS`: verified here, copied, run there by its runner, the report brought back."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.comparison.device_report import DeviceReport, device_report
from compress.device.device import Device, Found
from compress.device.transport import ConnectionLost, Told, Transport
from compress.pack.runner import make_runner
from compress.run_directory import sha256_of
from export.bundle.archive import write_archive
from export.bundle.manifest import WRITES
from export.bundle.verify import Bundle
from export.errors import CompressError, EnvironmentFailure, InputError, QualityError, SecurityError, UnsupportedError

SPARE_BYTES = 1 << 20
REPORT = "report.json"
FAILURES: dict[int, type[CompressError]] = {
    kind.exit_code: kind for kind in (InputError, UnsupportedError, SecurityError, QualityError, EnvironmentFailure)
}
"""Exit code of the runner -> what it means; both follow the same table."""


@dataclass(frozen=True)
class Asked:
    """How to measure there.

    Args:
        keep: leave bundle and runner on the device, for the next time.
        label: what the device is called in the report; by default its board or processor.
    """

    batches: tuple[int, ...] = (1,)
    threads: int = 1
    seconds: float = 6.0
    label: str | None = None
    keep: bool = False


def bench_there(
    bundle: Bundle, transport: Transport, asked: Asked, told: Told, device: Device | None = None
) -> DeviceReport:
    """Measure a verified bundle on a device; the report names no user and no host.

    Raises:
        CompressError: as the runner there says; its exit codes are those of the toolkit.
        EnvironmentFailure: if the device cannot be reached or lacks something; the message says what to do.
    """
    device = device or Device(transport, told)
    with tempfile.TemporaryDirectory(prefix="compress-") as scratch:
        files = _files(bundle, Path(scratch))
        names = [*files]
        found = device.probe(bundle.manifest.runtime.package.replace("-", "_"), names)
        try:
            _check(bundle, found, transport, {name: path.stat().st_size for name, path in files.items()})
            told(f"{transport.address}: Python {found.python}")
            for name, path in files.items():
                if name in found.here:
                    told(f"{name.partition('-')[2]} is there already")
                else:
                    told(f"copying {name.partition('-')[2]}, {path.stat().st_size:,} bytes")
                    device.put(path, name)
            found_there = _measured(device, asked, bundle.path.name, *names)
        except ConnectionLost:
            raise  # nothing can be removed from here; the job removes itself and what it used
        except BaseException:
            with suppress(CompressError):  # what is told is the first failure
                device.clean(() if asked.keep else names)
            raise
        device.clean(() if asked.keep else names)
        return found_there


def report_name(bundle: Path, report: DeviceReport) -> str:
    """'digits-raspberry-pi-4-model-b.json'."""
    label = re.sub(r"[^a-z0-9]+", "-", report.label.lower()).strip("-")[:60].strip("-")
    return f"{bundle.resolve().stem}-{label or 'device'}.json"


def _measured(device: Device, asked: Asked, called: str, bundle: str, runner: str) -> DeviceReport:
    threads = ["--threads", str(asked.threads)]
    # "bench" tests itself first; "selftest" before it tells the times of a cold start
    device.start(
        [
            [f"{{here}}/{runner}", "selftest", f"{{here}}/{bundle}", *threads],
            [
                *(f"{{here}}/{runner}", "bench", f"{{here}}/{bundle}", *threads),
                *("--seconds", str(asked.seconds), "--json", REPORT),
                *("--batch", *map(str, asked.batches)),
            ],
        ],
        () if asked.keep else (bundle, runner),
    )
    said: list[str] = []
    code = _heard(device, said, {bundle: called})
    if code != 0:
        raise _failure(code, said)
    found = device_report(json.loads(device.read(REPORT)), "the device's report")
    return found if asked.label is None else replace(found, label=asked.label)


def _heard(device: Device, said: list[str], names: Mapping[str, str]) -> int:
    """Wait for the end; what is said on the way is told and kept, with `names` as the user knows them."""
    told = device.told

    def both(line: str) -> None:
        for name, known in names.items():
            line = line.replace(name, known)
        said.append(line)
        told(line)

    device.told = both
    try:
        return device.wait()
    finally:
        device.told = told


def _failure(code: int, said: list[str]) -> CompressError:
    """What the runner said last, as the failure that its exit code stands for."""
    last = next((line for line in reversed(said) if line.startswith(("error: ", "fail: "))), said[-1] if said else "")
    if code < 0:
        return EnvironmentFailure(f"on the device the runner was ended by signal {-code}; did the memory suffice?")
    kind = FAILURES.get(code, EnvironmentFailure)
    return kind(f"on the device: {last.partition(': ')[2] or last or f'exit code {code}'}")


def _files(bundle: Bundle, scratch: Path) -> dict[str, Path]:
    """Bundle and runner by their names on the device: sha256, then what they are. A folder travels as an archive."""
    packed = bundle.path
    if packed.is_dir():
        packed = scratch / "bundle"
        write_archive({name: bundle.path / name for name in bundle.contents.sizes}, packed)
    runner = scratch / "runner.pyz"
    runner.write_bytes(make_runner(bundle.manifest.engine["target"], bundle.manifest.schema == WRITES))
    return {f"{sha256_of(packed)}-app.compress": packed, f"{sha256_of(runner)}-runner.pyz": runner}


def _check(bundle: Bundle, found: Found, transport: Transport, sizes: dict[str, int]) -> None:
    """What would fail there for certain is not begun."""
    runtime = bundle.manifest.runtime
    if found.missing:
        missing = " and no ".join(name.replace("_", "-") for name in found.missing)
        raise EnvironmentFailure(
            f"{transport.address}: {transport.python} there has no {missing}; on the device: "
            f"{transport.python} -m pip install numpy '{runtime.package}>={runtime.minimum}'"
        )
    needed = sum(size for name, size in sizes.items() if name not in found.here) + bundle.size_bytes + SPARE_BYTES
    if found.free_bytes < needed:
        raise EnvironmentFailure(
            f"{transport.address}: {found.free_bytes / 1e6:.1f} MB are free in {transport.folder}, "
            f"{needed / 1e6:.1f} MB are needed; free some space, or name another folder in the address"
        )
