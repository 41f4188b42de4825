"""What this machine is: enough to tell whether two measurements may be compared."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.process import memory_bytes
from benchmarks.sensors import clock_limit_mhz, emulator, temperatures, throttling
from targets import cuda
from targets.isa import instruction_sets

LIBRARIES = (
    "torch",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "openvino",
    "nncf",
    "tensorrt",
    "tensorrt-rtx",
    "transformers",
    "sacrebleu",
    "numpy",
)
"""Distributions that touch the model or the measurement."""

ROOT = Path("/")
STATE = "state"
"""The key of what changes from one minute to the next: it is reported, never compared."""


def machine(root: Path = ROOT) -> dict[str, Any]:
    """The fingerprint, and under STATE what the machine was doing: for a report."""
    return fingerprint(root) | {STATE: state(root)}


def usable_cores() -> int:
    """Cores that this process may run on: fewer than the machine has where it is confined to some."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fingerprint(root: Path = ROOT) -> dict[str, Any]:
    """What must be equal for two latencies to be compared. Holds no host or user name.

    What cannot be read (a governor in most virtual machines, a GPU where there is none) is left out.

    Args:
        root: where /proc, /sys and /etc are looked for.
    """
    usable = usable_cores()
    found = {
        "cpu": cpu_model(root),
        "board": _text(root / "proc/device-tree/model").strip("\0\n ") or None,
        "emulated_by": emulator(root),
        "architecture": platform.machine(),
        "instruction_sets": sorted(instruction_sets()),
        "cores": usable,
        "cpu_quota_cores": cpu_quota(root),
        "virtual_machine": virtual_machine(root),
        **_clock_limits(root),
        "memory_bytes": memory_bytes(),
        "system": platform.system(),
        "os": os_name(root),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **_gpu(root),
    }
    return {name: value for name, value in found.items() if value is not None}


def state(root: Path = ROOT) -> dict[str, Any]:
    """What the system tells of now: each core's clock in MHz, temperatures, what holds the clocks back, load of a minute."""
    clocks = [clock / 1000 for clock in _integers(_of_cores(root, "scaling_cur_freq"))] or _cpuinfo_clocks(root)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    found = {
        "clocks_mhz": [round(clock) for clock in clocks] or None,
        "clock_limit_mhz": clock_limit_mhz(root),
        "temperatures_c": temperatures(root) or None,
        "throttling": throttling(root) or None,
        "load_1min": load,
    }
    return {name: value for name, value in found.items() if value is not None}


def library_versions() -> dict[str, str]:
    """Versions of the installed ones of LIBRARIES."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def cpu_model(root: Path = ROOT) -> str:
    """The processor's name; on Linux with family and model, since clouds hide the name."""
    found = _first_processor(root)
    if "model name" not in found:
        return platform.processor() or platform.machine() or "unknown"
    return f"{found['model name']} (family {found.get('cpu family', '?')}, model {found.get('model', '?')})"


def cpu_quota(root: Path = ROOT) -> float | None:
    """Cores' worth of CPU time that the control groups of this process allow; None without a limit.

    A group is bound by those above it too: the tightest counts. In a container the groups above are not to be seen.
    """
    quotas: list[float] = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            quotas += _up_the_tree(root / "sys/fs/cgroup", path, _quota_v2)
        elif "cpu" in controllers.split(","):
            quotas += _up_the_tree(root / "sys/fs/cgroup/cpu", path, _quota_v1)
    return min(quotas, default=None)


def virtual_machine(root: Path = ROOT) -> bool | None:
    """Whether an x86 CPU says that a hypervisor is under it; None where there is no such flag to read."""
    flags = _first_processor(root).get("flags")
    return None if flags is None else "hypervisor" in flags.split()


def os_name(root: Path = ROOT) -> str | None:
    """As the distribution spells it: "Debian GNU/Linux 12 (bookworm)"; None where there is no os-release."""
    for line in _text(root / "etc/os-release").splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            return value.strip("\"'")
    return None


def _clock_limits(root: Path) -> dict[str, Any]:
    """The governors of the cores, and the lowest and highest clock that they may choose."""
    governors = sorted(set(_of_cores(root, "scaling_governor")))
    lowest = _integers(_of_cores(root, "scaling_min_freq"))
    highest = _integers(_of_cores(root, "scaling_max_freq"))
    return {
        "governor": ", ".join(governors) or None,
        "lowest_clock_mhz": min(lowest) // 1000 if lowest else None,
        "highest_clock_mhz": max(highest) // 1000 if highest else None,
    }


def _gpu(root: Path) -> dict[str, Any]:
    """The first NVIDIA GPU; nothing where none answers."""
    if cuda.no_gpu() is not None:
        return {}
    return {
        "gpu": cuda.device_name(),
        "gpu_compute_capability": cuda.compute_capability(),
        "gpu_driver": _text(root / "sys/module/nvidia/version").strip() or None,
        "gpu_cuda": cuda.driver_version(),
    }


def _up_the_tree(mounted: Path, path: str, quota: Callable[[Path], float | None]) -> Iterable[float]:
    """The quotas of a group and of all above it."""
    group = mounted / path.strip().lstrip("/")
    for folder in (group, *group.parents):
        found = quota(folder)
        if found is not None:
            yield found
        if folder == mounted:
            return


def _quota_v2(folder: Path) -> float | None:
    quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
    return int(quota) / int(period) if quota.isdigit() else None


def _quota_v1(folder: Path) -> float | None:
    quota, period = (_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    return int(quota) / int(period) if quota.isdigit() else None


def _first_processor(root: Path) -> dict[str, str]:
    """/proc/cpuinfo's first block."""
    lines = _text(root / "proc/cpuinfo").partition("\n\n")[0].splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _cpuinfo_clocks(root: Path) -> list[float]:
    lines = [line.partition(":") for line in _text(root / "proc/cpuinfo").splitlines()]
    return [float(value) for key, _, value in lines if key.strip() == "cpu MHz"]


def _of_cores(root: Path, name: str) -> list[str]:
    """One file of every core's frequency driver, where there is one; frequencies are in kHz."""
    cores = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*"), key=lambda core: int(core.name[3:]))
    return [text for text in (_text(core / "cpufreq" / name).strip() for core in cores) if text]


def _integers(texts: Iterable[str]) -> list[int]:
    return [int(text) for text in texts if text.isdigit()]


def _text(file: Path) -> str:
    """What stands in a file of the system; nothing where it is missing or may not be read."""
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""
