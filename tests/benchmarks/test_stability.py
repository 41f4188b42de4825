from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.measurements import Interval, Latency
from benchmarks.report import Row
from benchmarks.stability import crowded, unstable


def control(interval: Interval | None, processes: int = 5) -> Row:
    latency = Latency(1, {}, 1, 0.001, ((0.001,),) * processes, faster_than_fp32=interval)
    return Row("openvino", "original", "fp32", "control", "measured", latency=(latency,))


@pytest.mark.parametrize(
    ("interval", "sentence"),
    [
        (Interval(1.001, 0.99, 1.01), None),
        (Interval(1.0, 0.951, 1.05), None),
        (Interval(1.01, 1.0, 1.02), None),
        (
            Interval(1.031, 1.012, 1.050),
            "the machine was unstable while measuring (A/A 1.031 [1.012, 1.050]); close other programs and run again",
        ),
        (
            Interval(0.97, 0.95, 0.99),
            "the machine was unstable while measuring (A/A 0.970 [0.950, 0.990]); close other programs and run again",
        ),
        (
            Interval(1.003, 0.93, 1.08),
            "the machine was unstable while measuring (A/A 1.003 [0.930, 1.080], half-width 0.075, at most 0.05 allowed); "
            "close other programs or raise benchmark.processes, and run again",
        ),
    ],
)
def test_the_control_says_whether_the_machine_was_quiet(interval: Interval, sentence: str | None) -> None:
    assert unstable(control(interval), 0.05) == sentence


def test_a_control_that_was_not_timed_says_nothing() -> None:
    assert unstable(control(None), 0.05) is None
    assert unstable(Row("openvino", "original", "fp32", "control", "compiled"), 0.05) is None


def test_few_processes_tell_nothing_of_how_processes_differ() -> None:
    sentence = unstable(control(Interval(1.0, 0.99, 1.01), processes=2), 0.05)
    assert sentence is not None
    assert "measured in 2 processes of each engine, 5 are needed" in sentence


def test_a_machine_under_load_bears_no_claim_whatever_its_control_says() -> None:
    """Both of the control's engines are cut into alike; a short engine beside them is not."""
    steady = control(Interval(1.001, 0.99, 1.01))
    loaded = replace(steady, latency=(replace(steady.latency[0], under_load=True),))
    sentence = unstable(loaded, 0.05)
    assert sentence is not None and sentence.startswith("the machine was under load while measuring")


def test_other_programs_are_told_of_though_they_slow_the_control_as_well() -> None:
    assert crowded([]) is None
    assert crowded([0.04, 0.2]) is None
    sentence = crowded([0.04, 0.93])
    assert sentence is not None and sentence.startswith("other programs kept 0.9 cores busy meanwhile; ")
