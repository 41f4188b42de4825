"""The machine's fingerprint, read from folders that stand for other machines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import machine
from benchmarks.comparison.comparable import machine_differences
from targets import cuda
from tests.benchmarks.render.made_up import made_up_report

CPUINFO = """processor\t: 0
model name\t: Some CPU
cpu family\t: 25
model\t\t: 1
cpu MHz\t\t: 2445.426
flags\t\t: fpu sse {flag}

processor\t: 1
model name\t: Some CPU
cpu MHz\t\t: 3100.000
"""


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_cpu_and_operating_system(tmp_path: Path) -> None:
    release = 'NAME="Other"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'
    root = write(tmp_path, {"proc/cpuinfo": CPUINFO.format(flag="avx2"), "etc/os-release": release})
    found = machine.fingerprint(root)
    assert found["cpu"] == "Some CPU (family 25, model 1)"
    assert found["os"] == "Debian GNU/Linux 12 (bookworm)"
    assert found["virtual_machine"] is False


def test_a_hypervisor_is_told(tmp_path: Path) -> None:
    root = write(tmp_path, {"proc/cpuinfo": CPUINFO.format(flag="hypervisor")})
    assert machine.fingerprint(root)["virtual_machine"] is True


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    absent = {"cpu_quota_cores", "virtual_machine", "os", "governor", "lowest_clock_mhz", "highest_clock_mhz"}
    assert absent.isdisjoint(machine.fingerprint(tmp_path))
    assert "clocks_mhz" not in machine.state(tmp_path)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "50000 100000\n"}, 0.5),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "200000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "300000 100000\n",
            },
            2.0,
        ),
        (
            {
                "proc/self/cgroup": "2:cpu,cpuacct:/docker\n1:memory:/m\n0::/\n",
                "sys/fs/cgroup/cpu/docker/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu/docker/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            2.5,
        ),
        ({}, None),
    ],
)
def test_the_quota_is_the_tightest_of_the_groups(files: dict[str, str], cores: float | None, tmp_path: Path) -> None:
    assert machine.cpu_quota(write(tmp_path, files)) == cores


def test_governor_and_clocks(tmp_path: Path) -> None:
    folder = "sys/devices/system/cpu/cpu{}/cpufreq/scaling_{}"
    files = {folder.format(core, "governor"): "powersave\n" for core in (0, 1)}
    files[folder.format(10, "governor")] = "performance\n"
    for core, (lowest, highest, now) in {0: (800, 3400, 3000), 1: (800, 3400, 2000), 10: (600, 4200, 4100)}.items():
        for name, value in (("min_freq", lowest), ("max_freq", highest), ("cur_freq", now)):
            files[folder.format(core, name)] = f"{value}000\n"
    root = write(tmp_path, files)
    found = machine.fingerprint(root)
    assert found["governor"] == "performance, powersave"
    assert (found["lowest_clock_mhz"], found["highest_clock_mhz"]) == (600, 4200)
    assert machine.state(root)["clocks_mhz"] == [3000, 2000, 4100]


def test_without_a_frequency_driver_the_clocks_are_those_of_cpuinfo(tmp_path: Path) -> None:
    root = write(tmp_path, {"proc/cpuinfo": CPUINFO.format(flag="")})
    assert machine.state(root)["clocks_mhz"] == [2445, 3100]


def test_two_runs_a_minute_apart_are_still_of_one_machine() -> None:
    one = replace(
        made_up_report(), machine=machine.fingerprint() | {machine.STATE: {"clocks_mhz": [2000], "load_1min": 0.1}}
    )
    other = replace(
        made_up_report(), machine=machine.fingerprint() | {machine.STATE: {"clocks_mhz": [3000], "load_1min": 2.0}}
    )
    assert machine_differences(one, other) == ()
    governed = replace(other, machine={**other.machine, "governor": "performance"})
    assert machine_differences(one, governed) == ("governor absent → performance",)


def test_the_state_stands_apart_from_the_fingerprint() -> None:
    found = machine.machine()
    assert set(found) - {machine.STATE} == set(machine.fingerprint())
    assert "clocks_mhz" not in machine.fingerprint()


class Driver:
    """The calls of the CUDA driver that ask what the GPU is, with answers of a machine that has one."""

    def cuInit(self, flags: int) -> int:  # noqa: N802 - the driver's names
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = 1
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        return 0

    def cuDeviceGetName(self, text: Any, length: int, device: Any) -> int:  # noqa: N802
        text.value = b"NVIDIA L4"
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:  # noqa: N802
        value._obj.value = {75: 8, 76: 9}[attribute]
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 12040
        return 0


def test_a_gpu_is_named_with_its_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_driver", Driver)
    found = machine.fingerprint(write(tmp_path, {"sys/module/nvidia/version": "550.54.15\n"}))
    assert {name: value for name, value in found.items() if name.startswith("gpu")} == {
        "gpu": "NVIDIA L4",
        "gpu_compute_capability": "8.9",
        "gpu_driver": "550.54.15",
        "gpu_cuda": "12.4",
    }


@pytest.mark.skipif(cuda.no_gpu() is not None, reason=str(cuda.no_gpu()))
def test_a_real_gpu_tells_name_and_version() -> None:
    assert cuda.device_name()
    assert float(cuda.driver_version()) > 10


@pytest.mark.skipif(cuda.no_gpu() is None, reason="there is an NVIDIA GPU")
def test_without_a_gpu_nothing_is_said_of_one() -> None:
    assert not [name for name in machine.fingerprint() if name.startswith("gpu")]
