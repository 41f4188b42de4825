"""What disturbed a block of calls: time its threads waited for a core, time the hypervisor took, forced switches."""

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
TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
"""In which /proc/stat counts."""


@dataclass(frozen=True)
class Disturbance:
    """Over one block, of the whole process. `waited_s` is None where the system does not tell (anything but Linux).

    Args:
        waited_s: seconds that threads were ready to run and had no core, summed over the threads.
        stolen_s: seconds that the hypervisor gave the process's cores to others; it counts in ticks, mostly of 10 ms.
        switches: times that the scheduler took a core away.
        elsewhere_s: seconds that all cores worked for other processes; counted in ticks, right over many blocks.
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
        (waited, stolen, switches, elsewhere), now = self._before, self._now()
        spent = None if waited is None or now[0] is None else max(0.0, now[0] - waited)
        return Disturbance(spent, now[1] - stolen, now[2] - switches, now[3] - elsewhere)

    def _now(self) -> tuple[float | None, float, int, float]:
        path, waited, switches = Path("/proc/stat"), waited_s(Path("/proc/self/task")), forced_switches()
        if not path.exists():
            return waited, 0.0, switches, 0.0
        stat = path.read_text()
        return waited, stolen_s(stat, self._cores), switches, busy_s(stat) - time.process_time()


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
    return sum(int(line.split()[8]) for line in stat.splitlines() if line.split(" ", 1)[0] in names) / TICKS_PER_S


def busy_s(stat: str) -> float:
    """Seconds that all cores worked since boot: user, nice, system, irq and softirq in /proc/stat's first line."""
    figures = stat.split(maxsplit=8)
    return sum(int(figures[place]) for place in (1, 2, 3, 6, 7)) / TICKS_PER_S
