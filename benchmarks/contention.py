"""What disturbed a block of calls: waits for a core, time the hypervisor took, forced switches, work on other cores."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.process import forced_switches

WAITED = 0.02
"""Share of a block's wall time beyond which it counts as contended. An undisturbed block waits under 0.002."""
SWITCHES_PER_S = 100.0
"""Forced switches a second that count as contended where the system does not tell how long threads waited."""


@dataclass(frozen=True)
class Disturbance:
    """Over one block, of the whole process. `waited_s` is None where the system does not tell (anything but Linux).

    Args:
        waited_s: seconds that threads were ready to run and had no core, summed over the threads.
        stolen_s: seconds that the hypervisor gave the process's cores to others; it counts in ticks, mostly of 10 ms.
        switches: times that the scheduler took a core away.
        elsewhere_s: seconds that all cores of the machine worked for other processes. Counted in ticks, so that it may be
            below 0 in one block; right over many. It contends for no core, but for caches, memory and clock rates.
    """

    waited_s: float | None
    stolen_s: float
    switches: int
    elsewhere_s: float = 0.0

    def contended(self, wall_s: float, cpu_s: float, threads: int) -> bool:
        """Whether wall time and CPU time disagree for a reason that is not the engine's own waiting."""
        if self.stolen_s > WAITED * wall_s:
            return True
        if self.waited_s is not None:
            return self.waited_s > WAITED * wall_s * threads
        return self.switches > SWITCHES_PER_S * wall_s and cpu_s < 0.95 * wall_s * threads


class Watch:
    """Counters at the start of a block; `stop` gives what happened since."""

    def __init__(self) -> None:
        self._cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

    def start(self) -> None:
        self._before = self._now()

    def stop(self) -> Disturbance:
        before, now = self._before, self._now()
        waited = None if before.waited_s is None or now.waited_s is None else max(0.0, now.waited_s - before.waited_s)
        elsewhere_s = now.elsewhere_s - before.elsewhere_s
        return Disturbance(waited, now.stolen_s - before.stolen_s, now.switches - before.switches, elsewhere_s)

    def _now(self) -> Disturbance:
        """The counters, as if the process's life were one block."""
        path = Path("/proc/stat")
        stat = path.read_text() if path.exists() else ""
        elsewhere_s = busy_s(stat) - time.process_time() if stat else 0.0
        return Disturbance(
            waited_s(Path("/proc/self/task")), stolen_s(stat, self._cores), forced_switches(), elsewhere_s
        )


def waited_s(tasks: Path) -> float | None:
    """Seconds that the threads under /proc/PID/task waited on a run queue; None without schedstat.

    Source: Documentation/scheduler/sched-stats.rst of the Linux kernel, second field, in nanoseconds.
    """
    waited = 0
    try:
        for task in tasks.iterdir():
            waited += int((task / "schedstat").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None
    return waited * 1e-9


def stolen_s(stat: str, cores: list[int]) -> float:
    """Seconds stolen from `cores` since boot, from the text of /proc/stat (eighth figure of a core's line)."""
    names = {f"cpu{core}" for core in cores}
    return sum(int(line.split()[8]) for line in stat.splitlines() if line.split(" ", 1)[0] in names) / _ticks_a_second()


def busy_s(stat: str) -> float:
    """Seconds that all cores together worked since boot, from the text of /proc/stat.

    Source: proc_stat(5): user, nice, system, irq and softirq of the first line; guests are in user and nice.
    """
    figures = [int(figure) for figure in stat.partition("\n")[0].split()[1:]]
    return sum(figures[place] for place in (0, 1, 2, 5, 6)) / _ticks_a_second()


def _ticks_a_second() -> int:
    return os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
