from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.mlflow_log import FILE_STORE, NO_TELEMETRY, log_to_mlflow, run_metrics, run_params, run_tags
from export.errors import EnvironmentFailure
from tests.benchmarks.render.made_up import made_up_report, with_row
from tests.benchmarks.render.made_up_extremes import SHIPS, unstable_report

ROOT = Path(__file__).parents[2]


def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No telemetry, and what log_to_mlflow sets is undone after the test."""
    for name in (*NO_TELEMETRY, FILE_STORE[0]):
        monkeypatch.setenv(name, "true")


def installed_mlflow(monkeypatch: pytest.MonkeyPatch) -> Any:
    quiet(monkeypatch)
    return pytest.importorskip("mlflow", reason="mlflow is not installed; pip install 'edge-compress[mlflow]'")


def test_the_recipe_is_flattened_with_seed_machine_and_versions() -> None:
    params = run_params(made_up_report())
    assert params["recipe.steps.0.prune.speedup"] == "2.0"
    assert params["recipe.steps.2"] == "quantize"
    assert params["recipe.targets"] == "openvino, onnxruntime_mobile, tensorrt"
    assert params["seed"] == "0"
    assert params["machine.cpu"] == "AMD Zen 5"
    assert params["machine.state.governor"] == "performance"
    assert params["versions.openvino"] == "2026.1.0"


def test_the_metrics_are_those_of_what_ships() -> None:
    metrics = run_metrics(made_up_report())
    assert metrics["openvino.latency_ms"] == pytest.approx(0.523)
    speedup = [metrics[f"openvino.speedup{end}"] for end in ("", "_low", "_high")]
    assert speedup == pytest.approx([2.3136, 2.2789, 2.3529], abs=1e-4)
    assert metrics["openvino.accuracy"] == pytest.approx(0.9717)
    assert metrics["openvino.accuracy_difference_low"] == pytest.approx(-0.0076)
    assert metrics["openvino.size_bytes"] == 168_400
    assert metrics["openvino.throughput_samples_per_s"] == pytest.approx(1.7 / 0.000523)
    assert metrics["tensorrt.size_bytes"] == 1_100_000
    assert "tensorrt.latency_ms" not in metrics


def test_no_ratio_of_an_unstable_machine_is_logged() -> None:
    metrics, tags = run_metrics(unstable_report()), run_tags(unstable_report())
    assert "openvino.latency_ms" in metrics
    assert not [key for key in metrics if key.startswith(("openvino.speedup", "openvino.throughput_gain"))]
    assert "onnxruntime_mobile.speedup" in metrics
    assert tags["openvino.unstable"].startswith("the machine was unstable while measuring")
    assert tags["openvino.verdict"] == "inconclusive"
    assert tags["onnxruntime_mobile.ships"] == "int8"


def test_a_run_arrives_whole_in_a_store_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = installed_mlflow(monkeypatch)
    report = made_up_report()
    report.write(tmp_path / "report.json")
    uri = (tmp_path / "store").as_uri()
    run_id = log_to_mlflow(report, [tmp_path / "report.json"], uri)
    client = mlflow.MlflowClient(tracking_uri=uri)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == run_params(report)
    assert run.data.metrics == pytest.approx(run_metrics(report))
    assert run.data.tags["onnxruntime_mobile.verdict"] == "inconclusive"
    assert [file.path for file in client.list_artifacts(run_id)] == ["report.json"]
    assert client.get_experiment(run.info.experiment_id).name == "digits"
    again = client.get_run(log_to_mlflow(report, [tmp_path / "report.json"], uri))
    assert again.info.experiment_id == run.info.experiment_id


def test_mlflow_is_told_to_send_nothing_before_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed_mlflow(monkeypatch)
    code = (
        "import pathlib, sys\n"
        "from benchmarks.mlflow_log import log_to_mlflow\n"
        "from tests.benchmarks.render.made_up import made_up_report\n"
        "assert 'mlflow' not in sys.modules\n"
        "log_to_mlflow(made_up_report(), [pathlib.Path(sys.argv[1])], sys.argv[2])\n"
        "from mlflow.telemetry import get_telemetry_client\n"
        "assert get_telemetry_client() is None\n"
    )
    # Without what tells MLflow that it runs in a test or in CI, where it is silent by itself.
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV")}
    made_up_report().write(tmp_path / "report.json")
    command = [sys.executable, "-c", code, str(tmp_path / "report.json"), (tmp_path / "store").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, env=kept, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_a_store_that_refuses_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed_mlflow(monkeypatch)
    with pytest.raises(EnvironmentFailure, match=r"--mlflow nowhere://x: the store refused: "):
        log_to_mlflow(made_up_report(), [], "nowhere://x")


def test_without_mlflow_the_install_line_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet(monkeypatch)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(EnvironmentFailure, match=r"mlflow is not installed .*pip install 'edge-compress\[mlflow\]'"):
        log_to_mlflow(made_up_report(), [], "file:store")


def test_a_target_on_which_nothing_ships_has_no_metrics() -> None:
    assert not [
        key for key in run_metrics(with_row(made_up_report(), SHIPS, role="tried")) if key.startswith("openvino")
    ]
