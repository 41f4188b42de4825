"""Drawing a finished run's report again from its report.json, and handing it to MLflow."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmarks.mlflow_log import log_to_mlflow
from benchmarks.render.html import report_html
from benchmarks.render.markdown import report_markdown
from benchmarks.report import Report, write_text_whole


def write_report(run: Path, html: Path | None = None, mlflow: str | None = None) -> Iterable[str]:
    """Write report.md and report.html of a run; what was done, a line each.

    Args:
        run: a run's folder, or its report.json.
        html: where the HTML goes instead of the run's folder.
        mlflow: tracking URI to which the run is logged.

    Raises:
        InputError: if there is no report of this schema version.
        EnvironmentFailure: if mlflow is asked for and missing, or its store refuses.
    """
    report = Report.read(run)
    source = run / "report.json" if run.is_dir() else run
    page, markdown = html or source.with_name("report.html"), source.with_name("report.md")
    write_text_whole(page, report_html(report))
    yield f"written: {page}"
    write_text_whole(markdown, report_markdown(report))
    yield f"written: {markdown}"
    if mlflow is not None:
        yield f"logged to {mlflow}: run {log_to_mlflow(report, (source, markdown, page), mlflow)}"
