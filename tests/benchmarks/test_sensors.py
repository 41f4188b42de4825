"""Temperatures, throttling and emulation, read from folders that stand for other machines."""

from __future__ import annotations

from pathlib import Path

from benchmarks import machine, sensors
from benchmarks.device.heat import emulation, heat
from tests.benchmarks.test_machine import write


def test_zones_and_monitors(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
            "sys/class/thermal/thermal_zone0/temp": "61250\n",
            "sys/class/thermal/thermal_zone1/type": "cpu-thermal\n",
            "sys/class/thermal/thermal_zone1/temp": "-5000\n",
            "sys/class/thermal/thermal_zone2/type": "modem\n",
            "sys/class/thermal/thermal_zone2/temp": "\n",
            "sys/class/hwmon/hwmon3/name": "nvme\n",
            "sys/class/hwmon/hwmon3/temp1_label": "Composite\n",
            "sys/class/hwmon/hwmon3/temp1_input": "38900\n",
        },
    )
    found = {"cpu-thermal": 61.2, "cpu-thermal #2": -5.0, "nvme Composite": 38.9}
    assert sensors.temperatures(root) == found
    assert machine.state(root)["temperatures_c"] == found


def test_what_holds_the_clocks_back(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "3\n",
            "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "4\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "1200000\n",
            "sys/devices/system/cpu/cpu1/cpufreq/scaling_max_freq": "1800000\n",
            "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
            "sys/class/thermal/cooling_device0/type": "cpufreq-cpu0\n",
            "sys/class/thermal/cooling_device0/cur_state": "2\n",
            "sys/class/thermal/cooling_device1/type": "pwm-fan\n",
            "sys/class/thermal/cooling_device1/cur_state": "4\n",
        },
    )
    state = machine.state(root)
    assert state["throttling"] == {"times": 7, "flags": 0x50005, "cooling": 2}
    assert state["clock_limit_mhz"] == 1800


def test_where_nothing_is_told_nothing_is_said(tmp_path: Path) -> None:
    assert not {"temperatures_c", "throttling", "clock_limit_mhz"} & machine.state(tmp_path).keys()
    assert not {"board", "emulated_by"} & machine.fingerprint(tmp_path).keys()
    assert list(heat({}, {})) == []


def test_the_board_is_named(tmp_path: Path) -> None:
    root = write(tmp_path, {"proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0"})
    assert machine.fingerprint(root)["board"] == "Raspberry Pi 4 Model B Rev 1.4"


def test_the_program_that_plays_a_processor(tmp_path: Path) -> None:
    (tmp_path / "proc/thread-self").mkdir(parents=True)
    link = tmp_path / "proc/thread-self/exe"
    link.symlink_to("/usr/bin/python3.11")
    assert machine.fingerprint(tmp_path).get("emulated_by") is None
    link.unlink()
    link.symlink_to("/usr/bin/qemu-aarch64-static")
    found = machine.fingerprint(tmp_path)
    assert found["emulated_by"] == "qemu-aarch64-static"
    [sentence] = emulation(found)
    assert "no speed is claimed" in sentence


def test_what_changed_while_measuring_is_a_sentence_each() -> None:
    before = {
        "clocks_mhz": [2400, 1000],
        "clock_limit_mhz": 2400,
        "temperatures_c": {"cpu": 51.0, "gpu": 40.0},
        "throttling": {"times": 2, "flags": 0x50000, "cooling": 0},
    }
    after = {
        "clocks_mhz": [1500, 1500],
        "clock_limit_mhz": 1500,
        "temperatures_c": {"cpu": 84.6, "gpu": 41.0},
        "throttling": {"times": 5, "flags": 0xD0004, "cooling": 3},
    }
    assert list(heat(before, after)) == [
        "the processor was throttled 3 times while measuring; let it cool, or give it a fan",
        "the board tells that it throttles",
        "the board tells that it is at its heat limit",
        "the kernel held the clocks back to cool the processor while measuring",
        "the highest clock allowed fell from 2400 to 1500 MHz while measuring: the device was throttled",
        "the fastest core ran at 2400 MHz before and at 1500 MHz after measuring",
        "the device got hot: cpu 85 °C, 51 °C before",
    ]
    assert list(heat(before, before)) == []
