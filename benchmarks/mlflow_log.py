"""One run's report in an MLflow tracking store: parameters, metrics, the verdicts as tags, the report as artifacts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measurements import Interval
from benchmarks.render.claims import instability
from benchmarks.render.facts import spell
from benchmarks.render.tables import latency_at, main_point
from benchmarks.report import Report, Row
from export.errors import EnvironmentFailure

LONGEST_PARAM = 6000
"""Characters of a parameter's value that every MLflow store takes."""
NO_TELEMETRY = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
"""MLflow 3 reports usage to its makers unless told not to, and reads this when it is imported."""
FILE_STORE = ("MLFLOW_ALLOW_FILE_STORE", "true")
"""MLflow 3 calls folders a thing of the past and refuses them without this; whoever gives a "file:" URI has chosen one."""


def log_to_mlflow(report: Report, files: Sequence[Path], uri: str) -> str:
    """Log a run's report to the tracking store `uri` as a run of the experiment with the report's name.

    Args:
        files: of the report; they become artifacts.
        uri: what MLflow takes: "file:...", "sqlite:...", "http(s)://...".

    Returns:
        The id of the MLflow run.

    Raises:
        EnvironmentFailure: if mlflow is not installed, or the store refuses.
    """
    os.environ.update(NO_TELEMETRY)
    os.environ.setdefault(*FILE_STORE)
    try:
        import mlflow
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise EnvironmentFailure(
            f"mlflow is not installed ({error}); pip install 'edge-compress[mlflow]', then run the same command again"
        ) from error
    try:
        client = mlflow.MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name(report.name)
        experiment_id = experiment.experiment_id if experiment else client.create_experiment(report.name)
        run_id: str = client.create_run(experiment_id, run_name=report.name, tags=run_tags(report)).info.run_id
        for key, value in run_params(report).items():
            client.log_param(run_id, key, value)
        for key, number in run_metrics(report).items():
            client.log_metric(run_id, key, number)
        for file in files:
            client.log_artifact(run_id, str(file))
        client.set_terminated(run_id)
    except (MlflowException, OSError) as error:
        raise EnvironmentFailure(f"--mlflow {uri}: the store refused: {' '.join(str(error).split())}") from error
    return run_id


def run_params(report: Report) -> dict[str, str]:
    """The recipe flattened ("recipe.steps.0.prune.speedup"), the seed, the machine and the versions."""
    parts = {"recipe": report.recipe, "seed": report.seed, "machine": report.machine, "versions": report.versions}
    return {key: value[:LONGEST_PARAM] for key, value in _flat(parts)}


def run_metrics(report: Report) -> dict[str, float]:
    """What ships on each target ("openvino.latency_ms"); no ratio of a target whose machine was unstable."""
    return {
        f"{target}.{key}": value
        for target in report.targets
        if (chosen := report.chosen(target))
        for key, value in _row_metrics(report, chosen)
    }


def run_tags(report: Report) -> dict[str, str]:
    """The verdict of each target, what ships there, and why no speed is claimed."""
    tags = {"edge-compress": report.toolkit_version, "created": report.created, "command": report.command}
    for verdict in report.verdicts:
        tags[f"{verdict.target}.verdict"] = verdict.decision
        tags[f"{verdict.target}.ships"] = verdict.scheme
    reasons = {target: instability(report, target) for target in report.targets}
    return tags | {f"{target}.unstable": reason for target, reason in reasons.items() if reason}


def _row_metrics(report: Report, row: Row) -> Iterable[tuple[str, float]]:
    point, claimed = main_point(report), instability(report, row.target) is None
    latency = latency_at(row, point) if point else None
    if latency:
        yield "latency_ms", 1000 * latency.median_s
    if latency and latency.faster_than_fp32 and claimed:
        yield from _interval("speedup", latency.faster_than_fp32)
    if row.evaluation:
        yield report.metric, row.evaluation.value
        if row.evaluation.difference:
            yield from _interval(f"{report.metric}_difference", row.evaluation.difference)
    if row.size_bytes is not None:
        yield "size_bytes", float(row.size_bytes)
    if row.throughput:
        yield "throughput_samples_per_s", row.throughput.samples_per_s
        if row.throughput.more_than_fp32 and claimed:
            yield from _interval("throughput_gain", row.throughput.more_than_fp32)


def _interval(name: str, interval: Interval) -> Iterable[tuple[str, float]]:
    yield name, interval.value
    yield f"{name}_low", interval.low
    yield f"{name}_high", interval.high


def _flat(value: Any, path: str = "") -> Iterable[tuple[str, str]]:
    """Every leaf of nested mappings and of lists of mappings, with the keys on the way; a plain list is one value."""
    if isinstance(value, Mapping) and value:
        for key, entry in value.items():
            yield from _flat(entry, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (list, tuple)) and any(isinstance(entry, Mapping) for entry in value):
        for index, entry in enumerate(value):
            yield from _flat(entry, f"{path}.{index}")
    else:
        yield path, str(value) if isinstance(value, float) else spell(value)
