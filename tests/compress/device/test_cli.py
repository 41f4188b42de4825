"""`compress bench BUNDLE` and `compress compare RUN DEVICE.json` as a user calls them, without a device."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.comparison.test_devices import made_up_device
from tests.benchmarks.render.made_up import made_up_report
from tests.compress.conftest import Cli

FAR = "ssh://nobody@nowhere.invalid"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["app.compress", "--size", "length=3"], "--size: is for model files, not for the bundle app.compress"),
        (["app.compress", "--throughput"], "--throughput: is for model files"),
        (["app.compress", "--half-width", "0.1"], "--half-width: is for model files"),
        (["app.compress", "b.compress"], "found 2 files; a bundle is measured by itself"),
        (["app.compress", "--on", "openvino"], "of a bundle the address of a device is meant"),
        (["app.compress", "--on", "ssh://-oProxyCommand=x"], "holds what no host has"),
        (["model.onnx", "--python", "x"], "--python: is for a bundle on a device"),
        (["model.onnx", "--keep"], "--keep: is for a bundle on a device"),
        (["model.onnx", "--batch", "1", "--batch", "2"], "--batch: stands twice"),
        (["none.compress", "--on", FAR], "none.compress: No such file"),
    ],
)
def test_wrong_words_are_exit_code_2(cli: Cli, words: list[str], message: str) -> None:
    code, out, err = cli("bench", *words)
    assert (code, out) == (2, "")
    assert message in err


def test_a_damaged_bundle_is_refused_before_any_device_is_asked(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "app.compress").write_bytes(b"PK" + bytes(100))
    code, _, err = cli("bench", "app.compress", "--on", FAR)
    assert code == 4
    assert err.startswith("compress: app.compress: it is no whole bundle")


def test_desk_and_device_side_by_side(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    made_up_report().write(tmp_path / "run/report.json")
    made_up_device(warnings=("the device got hot: cpu 85 °C",)).write(tmp_path / "pi.json")
    code, out, err = cli("compare", "run", "pi.json", "--html", "both.html")
    assert (code, err) == (0, "")
    for words in ("desk: run on AMD Zen 5", "device: Raspberry Pi 4", "no speed-up of one over another is claimed"):
        assert words in out
        assert words in (tmp_path / "both.html").read_text()
    assert "not compared: Raspberry Pi 4 against run: the device ran another artifact" in out
    assert "warning: Raspberry Pi 4: the device got hot" in out
    assert "faster" not in out


def test_wrong_answers_on_a_device_are_exit_code_5(cli: Cli, tmp_path: Path) -> None:
    made_up_device(findings=("it remembers answers",)).write(tmp_path / "a.json")
    made_up_device("Desk").write(tmp_path / "b.json")
    code, out, _ = cli("compare", "b.json", "a.json")
    assert code == 5
    assert "wrong answers: Raspberry Pi 4: it remembers answers" in out
    assert "same artifact: Raspberry Pi 4 ran the same bundle as Desk" in out


def test_across_is_not_for_devices(cli: Cli, tmp_path: Path) -> None:
    made_up_device().write(tmp_path / "a.json")
    code, _, err = cli("compare", "run", "a.json", "--across")
    assert code == 2
    assert "speed is never compared between a desk and a device" in err
