"""Desk and device side by side: marked as different machines, the same artifact known again, and no verdict on speed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.comparison.device_report import (
    BundleName,
    DeviceReport,
    device_report,
    is_device_report,
    read_device_report,
)
from benchmarks.comparison.devices import Desk, made_digests, side_by_side, side_by_side_table
from benchmarks.device.golden import Selftest
from benchmarks.measurements import Footprint, Interval, Latency
from benchmarks.render.html import devices_html
from export.errors import InputError
from tests.benchmarks.render.made_up import made_up_report

LATENCY = Latency(1, {}, 1, 0.0081, ((0.0081, 0.0082),) * 5, calls=900)


def made_up_device(label: str = "Raspberry Pi 4", **changes: object) -> DeviceReport:
    found = DeviceReport(
        schema="edge-compress device 1",
        created="2031-05-04T13:00:00+00:00",
        label=label,
        bundle=BundleName("digits", "ab" * 32),
        files={"model/model.xml": "f" * 64},
        target="openvino",
        scheme="int8",
        protocol={"threads": 1},
        latency=(LATENCY,),
        control={1: Interval(1.001, 0.99, 1.01)},
        footprint=Footprint(0.2, 0.02, 90_000_000, 60_000_000),
        selftest=Selftest(16, 0.2, 0.02, 0.008, (), 0.3),
        findings=(),
        warnings=(),
        machine={"cpu": "aarch64", "architecture": "aarch64", "state": {"temperatures_c": {"cpu": 50.0}}},
        state_after={},
        versions={"openvino": "2025.3.0"},
    )
    return replace(found, **changes)  # type: ignore[arg-type]


def desk(files: set[str] = frozenset()) -> Desk:  # type: ignore[assignment]
    return Desk("runs/digits", made_up_report(), {"openvino": frozenset(files)})


def test_each_machine_has_its_heading_and_no_line_a_ratio() -> None:
    found = side_by_side([desk({"f" * 64})], [("pi.json", made_up_device())])
    table = side_by_side_table(found)
    headings = [line.cells[0] for line in table.lines if line.kind == "heading"]
    assert headings[0].startswith("desk: runs/digits on AMD")
    assert headings[1] == "device: Raspberry Pi 4"
    assert table.lines[-1].cells[:5] == ("  steady", "openvino int8", "1", "8.10", "1.001 [0.990, 1.010]")
    assert not any("x [" in cell for line in table.lines for cell in line.cells)
    assert table.notes[0].startswith("Different machines: no speed-up of one over another is claimed")
    [same] = found.same
    assert same == "Raspberry Pi 4 ran the artifact of runs/digits, byte for byte (model/model.xml ffffffffffff)"
    assert found.refusals[0].startswith(
        "Raspberry Pi 4 against runs/digits: speed is not compared, the machines differ: cpu AMD"
    )


def test_another_artifact_is_said() -> None:
    found = side_by_side([desk({"0" * 64})], [("pi.json", made_up_device())])
    assert found.same == ()
    assert (
        "the device ran another artifact (model/model.xml ffffffffffff): the figures are of two models"
        in found.refusals[0]
    )


def test_a_bundle_is_known_again_by_its_digest() -> None:
    devices = [("a.json", made_up_device()), ("b.json", made_up_device()), ("c.json", made_up_device("Jetson"))]
    devices[2] = ("c.json", replace(devices[2][1], bundle=BundleName("digits", "cd" * 32)))
    found = side_by_side([], devices)
    assert found.same == ("Raspberry Pi 4 #2 ran the same bundle as Raspberry Pi 4 #1 (abababababab)",)
    assert "Jetson against Raspberry Pi 4 #1: two bundles (cdcdcdcdcdcd and abababababab)" in found.refusals
    assert "the same machine, but not measured side by side" in found.refusals[0]


def test_an_emulated_device_has_no_speed() -> None:
    emulated = made_up_device(
        machine={"cpu": "aarch64", "emulated_by": "qemu-aarch64-static"}, warnings=("it is emulated",)
    )
    found = side_by_side([desk()], [("arm.json", emulated)])
    lines = side_by_side_table(found).lines
    assert lines[-2].cells == ("emulated: Raspberry Pi 4",)
    assert lines[-1].cells[0] == "  emulated, no speed"
    assert found.warnings == ("Raspberry Pi 4: it is emulated",)


def test_an_unsteady_device_is_marked() -> None:
    found = side_by_side([], [("a.json", made_up_device(control={1: Interval(1.2, 1.1, 1.3)}))] * 1)
    assert side_by_side_table(found).lines[-1].cells[0] == "  unsteady"
    assert "close other programs" in str(found.machines[0].measurements[0].unsteady)


def test_wrong_answers_stand_out() -> None:
    found = side_by_side([desk()], [("a.json", made_up_device(findings=("it remembers answers",)))])
    assert found.worse == ("Raspberry Pi 4: it remembers answers",)
    page = devices_html(found)
    assert "Wrong answers" in page and "it remembers answers" in page and "device: Raspberry Pi 4" in page


def test_a_run_without_the_devices_target_is_refused() -> None:
    with pytest.raises(InputError, match=r"runs/digits: ships nothing for coreml, which a\.json was measured on"):
        side_by_side([desk()], [("a.json", made_up_device(target="coreml"))])


def test_files_for_other_platforms_are_known_too(tmp_path: Path) -> None:
    report = made_up_report()
    row = report.chosen("openvino")
    assert row is not None
    folder = (tmp_path / next(iter(row.files))).parent
    folder.mkdir(parents=True)
    (folder / "model.arm64.ort").write_bytes(b"")
    made = made_digests(tmp_path, report)["openvino"]
    assert "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" in made  # sha256 of nothing
    assert set(row.files.values()) <= made


def test_a_report_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "pi.json"
    made_up_device().write(path)
    assert is_device_report(path)
    assert read_device_report(path) == made_up_device()
    (tmp_path / "other.json").write_text("{}")
    assert not is_device_report(tmp_path / "other.json")


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the device's report: not a report of a device: schema"):
        device_report({}, "the device's report")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        read_device_report(tmp_path / "x.json")
