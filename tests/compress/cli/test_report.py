"""`compress report` and `compress schema --report`: a finished run drawn again, nothing measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from benchmarks.mlflow_log import FILE_STORE, NO_TELEMETRY
from benchmarks.render.html import report_html
from benchmarks.render.markdown import report_markdown
from compress.cli.report import write_report
from export.errors import EnvironmentFailure, InputError
from tests.benchmarks.render.made_up import made_up_report
from tests.compress.conftest import Cli


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made_up_report().write(tmp_path / "report.json")
    return tmp_path


def test_both_files_are_written_again_and_told(folder: Path, cli: Cli) -> None:
    code, out, err = cli("report", folder)
    assert (code, err) == (0, "")
    assert out.splitlines() == [f"written: {folder / 'report.html'}", f"written: {folder / 'report.md'}"]
    assert (folder / "report.html").read_text(encoding="utf-8") == report_html(made_up_report())
    assert (folder / "report.md").read_text(encoding="utf-8") == report_markdown(made_up_report())


def test_the_html_may_go_elsewhere(folder: Path, cli: Cli) -> None:
    code, out, _ = cli("report", folder / "report.json", "--html", folder / "page.html")
    assert code == 0
    assert f"written: {folder / 'page.html'}" in out
    assert not (folder / "report.html").exists()


def test_a_folder_without_a_report_is_one_sentence(tmp_path: Path, cli: Cli) -> None:
    code, _, err = cli("report", tmp_path)
    assert code == 2
    assert "no report.json there" in err
    with pytest.raises(InputError, match=r"no report\.json there"):
        list(write_report(tmp_path))


def test_a_run_goes_to_mlflow(folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NO_TELEMETRY, FILE_STORE[0]):
        monkeypatch.setenv(name, "true")
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed; pip install 'edge-compress[mlflow]'")
    uri = (folder / "store").as_uri()
    code, out, _ = cli("report", folder, "--mlflow", uri)
    assert code == 0
    assert f"logged to {uri}: run " in out
    found = {file.path for file in mlflow.MlflowClient(tracking_uri=uri).list_artifacts(out.split()[-1])}
    assert found == {"report.json", "report.html", "report.md"}


def test_without_mlflow_the_files_are_written_and_the_install_line_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*NO_TELEMETRY, FILE_STORE[0]):
        monkeypatch.setenv(name, "true")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(EnvironmentFailure, match=r"pip install 'edge-compress\[mlflow\]'"):
        list(write_report(folder, mlflow="file:store"))
    assert (folder / "report.html").exists()


def test_the_report_s_schema_is_printed(cli: Cli) -> None:
    code, out, _ = cli("schema", "--report")
    assert code == 0
    Draft202012Validator.check_schema(json.loads(out))
    assert json.loads(out)["$id"] == "urn:edge-compress:report:2"
