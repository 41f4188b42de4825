"""`compress compare` in CI: what it prints, what it writes, and the exit code that follows."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.measurements import Interval
from benchmarks.report import Report
from benchmarks.samples_file import FILE, write_samples
from compress.cli import main
from tests.benchmarks.render.made_up import made_up_report, with_row

OPENVINO_CHOSEN = 5

Compare = Callable[..., tuple[int, str, str]]


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Compare:
    """Runs `compress compare` in a folder that holds the run "yesterday": exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    write_run(tmp_path / "yesterday", made_up_report())

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["compress", "compare", *words])
        with pytest.raises(SystemExit) as left:
            main()
        printed = capsys.readouterr()
        return int(left.value.code or 0), printed.out, printed.err

    return call


def write_run(folder: Path, report: Report, rows: np.ndarray | None = None) -> None:
    folder.mkdir(exist_ok=True)
    report.write(folder / "report.json")
    if rows is not None:
        write_samples(folder / FILE, {"openvino/evaluation": rows})


def slower() -> Report:
    report = made_up_report()
    latency = report.rows[OPENVINO_CHOSEN].latency[0]
    return with_row(report, OPENVINO_CHOSEN, latency=(replace(latency, faster_than_fp32=Interval(1.5, 1.48, 1.52)),))


def test_nothing_worse_is_exit_code_0(compare: Compare, tmp_path: Path) -> None:
    write_run(tmp_path / "today", made_up_report())
    code, out, err = compare("yesterday", "today", "--html", "both.html")
    assert (code, err) == (0, "")
    assert "Nothing that was compared really got worse." in out
    assert "Nothing that was compared really got worse" in (tmp_path / "both.html").read_text()


def test_something_worse_is_exit_code_5_and_a_sentence(compare: Compare, tmp_path: Path) -> None:
    write_run(tmp_path / "today", slower())
    code, out, _ = compare("yesterday", "today", "--html", "both.html")
    sentence = "today against yesterday: openvino: speed-up over the runtime's FP32 2.31x → 1.50x"
    assert code == 5
    assert f"worse: {sentence}" in out
    page = (tmp_path / "both.html").read_text()
    assert "Really got worse" in page
    assert sentence.replace("'", "&#39;") in page


def test_across_must_be_asked_for(compare: Compare, tmp_path: Path) -> None:
    write_run(tmp_path / "today", replace(slower(), machine={"cpu": "Intel N100"}))
    code, out, _ = compare("yesterday", "today")
    assert code == 0
    assert "not compared: today against yesterday: latencies are not compared, the machines differ: cpu AMD" in out
    code, out, _ = compare("yesterday", "today", "--across", "--html", "both.html")
    assert code == 5
    assert "beware: today against yesterday: latencies are compared, though the machines differ: cpu AMD" in out
    assert "Compared all the same" in (tmp_path / "both.html").read_text()


def test_the_samples_beside_the_reports_are_used(compare: Compare, tmp_path: Path) -> None:
    """Eight samples lost and none gained: unsure by the intervals of the runs, real sample by sample."""
    truth = np.arange(797) % 10
    for name, lost in (("yesterday", 0), ("today", 8)):
        predicted = np.where(np.arange(797) < lost, -1, truth)
        rows = np.stack([predicted, truth], axis=1).astype(np.float64)
        report = made_up_report()
        evaluation = report.rows[OPENVINO_CHOSEN].evaluation
        assert evaluation is not None
        evaluation = replace(evaluation, value=1 - lost / 797, difference=Interval(-0.01, -0.02, 0.0))
        write_run(tmp_path / name, with_row(report, OPENVINO_CHOSEN, evaluation=evaluation), rows)
    code, out, _ = compare("yesterday", "today/report.json")
    assert code == 5
    assert "8 samples lost, 0 gained, McNemar p 0.0078" in out
    (tmp_path / "today" / FILE).unlink()
    assert compare("yesterday", "today")[0] == 0


def test_a_damaged_samples_file_is_exit_code_2(compare: Compare, tmp_path: Path) -> None:
    write_run(tmp_path / "today", made_up_report())
    (tmp_path / "today" / FILE).write_bytes(b"torn")
    code, _, err = compare("yesterday", "today")
    assert code == 2
    assert "samples.npz: not the samples of a run" in err
