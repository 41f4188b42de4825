"""How hot a machine is and what holds its clocks back, as far as Linux tells; and whether its processor is a program."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

CPU = Path("sys/devices/system/cpu")
PI_FLAGS = Path("sys/devices/platform/soc/soc:firmware/get_throttled")
"""Of a Raspberry Pi: bits 0 to 3 are now, 16 to 19 since boot.

Source: raspberrypi.com/documentation/computers/os.html, vcgencmd get_throttled
"""


def temperatures(root: Path) -> dict[str, float]:
    """Degrees Celsius by sensor: thermal zones, and what hardware monitors tell besides."""
    found: dict[str, float] = {}
    zones = root / "sys/class/thermal"
    for zone in _numbered(zones, "thermal_zone*"):
        _add(found, _text(zone / "type"), zone / "temp")
    for monitor in _numbered(root / "sys/class/hwmon", "hwmon*"):
        for sensor in sorted(_entries(monitor, "temp*_input")):
            label = _text(monitor / sensor.name.replace("_input", "_label"))
            _add(found, " ".join(filter(None, (_text(monitor / "name"), label))), sensor)
    return found


def clock_limit_mhz(root: Path) -> int | None:
    """The highest clock that any core may take now: a kernel that cools lowers it."""
    limits = [_number(core / "cpufreq/scaling_max_freq") for core in _entries(root / CPU, "cpu[0-9]*")]
    known = [limit for limit in limits if limit is not None]
    return max(known) // 1000 if known else None


def throttling(root: Path) -> dict[str, int]:
    """Times that cores were throttled since boot (x86), a Raspberry Pi's flags, and how far cooling holds clocks back."""
    found: dict[str, int] = {}
    counts = [_number(core / "thermal_throttle/core_throttle_count") for core in _entries(root / CPU, "cpu[0-9]*")]
    if any(count is not None for count in counts):
        found["times"] = sum(count or 0 for count in counts)
    flags = _text(root / PI_FLAGS)
    if flags:
        found["flags"] = int(flags, 16)
    steps = [
        _number(device / "cur_state") or 0
        for device in _entries(root / "sys/class/thermal", "cooling_device*")
        if "cpufreq" in _text(device / "type")
    ]
    if steps:
        found["cooling"] = max(steps)
    return found


def emulator(root: Path) -> str | None:
    """The program that plays this processor ("qemu-aarch64-static"); None where none does, or it cannot be told.

    QEMU's user mode answers /proc/self/exe itself with the guest's program; the thread's own link it leaves to the kernel.
    """
    try:
        own = (root / "proc/thread-self/exe").readlink().name
    except OSError:
        return None
    return own if own.startswith("qemu-") else None


def _add(found: dict[str, float], name: str, file: Path) -> None:
    """Some sensors are there and answer nothing; of several by one name all are kept."""
    value = _number(file)
    if value is None:
        return
    name = name or file.parent.name
    alike = sum(known == name or known.startswith(name + " #") for known in found)
    found[f"{name} #{alike + 1}" if alike else name] = round(value / 1000, 1)


def _numbered(folder: Path, pattern: str) -> list[Path]:
    return sorted(_entries(folder, pattern), key=lambda each: int("".join(filter(str.isdigit, each.name)) or 0))


def _entries(folder: Path, pattern: str) -> Iterable[Path]:
    return folder.glob(pattern) if folder.is_dir() else ()


def _number(file: Path) -> int | None:
    text = _text(file)
    return int(text) if text.lstrip("-").isdigit() else None


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""
