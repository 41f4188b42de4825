"""What the system tells of this process and its memory, from the standard library where that can: a device has no psutil."""

from __future__ import annotations

import os
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def resident_bytes() -> int:
    """Resident set size now."""
    if STATUS.exists():
        return _status("VmRSS")
    import psutil

    return int(psutil.Process().memory_info().rss)


def peak_bytes() -> int:
    """Largest resident set size so far."""
    if STATUS.exists():  # ru_maxrss would start from the parent's size: it survives fork and exec
        return _status("VmHWM")
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS


def forced_switches() -> int:
    """Times that the scheduler took a core away from the process's threads."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().num_ctx_switches().involuntary)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def memory_bytes() -> int:
    """Of the machine."""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    import psutil

    return int(psutil.virtual_memory().total)


def _status(field: str) -> int:
    """A size in /proc/self/status, which is given in kB."""
    [line] = [line for line in STATUS.read_text().splitlines() if line.startswith(field + ":")]
    return int(line.split()[1]) * 1024
