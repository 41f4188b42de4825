"""What disturbed a block, from the system's counters."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.contention import Disturbance, Watch, busy_s, stolen_s

STAT = """cpu  100 20 30 5000 7 4 6 11 3 1
cpu0 60 10 20 2500 3 2 3 8 2 0
cpu1 40 10 10 2500 4 2 3 3 1 1
"""


@pytest.mark.parametrize(
    ("disturbance", "contended"),
    [
        (Disturbance(waited_s=0.0005, stolen_s=0.0, switches=9), False),
        (Disturbance(waited_s=0.005, stolen_s=0.0, switches=1), True),
        (Disturbance(waited_s=0.0, stolen_s=0.01, switches=0), True),
        (Disturbance(waited_s=None, stolen_s=0.0, switches=40), True),
        (Disturbance(waited_s=None, stolen_s=0.0, switches=1), False),
    ],
)
def test_what_counts_as_contended(disturbance: Disturbance, contended: bool) -> None:
    assert disturbance.contended(wall_s=0.08, cpu_s=0.06, threads=1) is contended


def test_what_the_system_tells_of_its_cores() -> None:
    """In ticks: user 100, nice 20, system 30, irq 4, softirq 6; stolen 8 and 3."""
    ticks = os.sysconf("SC_CLK_TCK")
    assert busy_s(STAT) == pytest.approx(160 / ticks)
    assert stolen_s(STAT, [1]) == pytest.approx(3 / ticks)
    assert stolen_s(STAT, [0, 1]) == pytest.approx(11 / ticks)


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="the system does not tell what its cores do")
def test_work_of_other_programs_is_seen_and_ones_own_is_not() -> None:
    watch = Watch()
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            its = psutil.Process(other.pid)
            watch.start()
            before, mine, begun = worked_s(its), time.process_time(), time.monotonic()
            while worked_s(its) < before + 0.5 and time.monotonic() < begun + 60:
                pass
            other_s, mine_s, wall_s = worked_s(its) - before, time.process_time() - mine, time.monotonic() - begun
            found = watch.stop().elsewhere_s
        finally:
            other.kill()
    assert 0.39 < other_s - 0.1 < found < (os.cpu_count() or 1) * wall_s - mine_s + 0.1


def worked_s(process: psutil.Process) -> float:
    spent = process.cpu_times()
    return float(spent.user + spent.system)
