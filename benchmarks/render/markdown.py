"""A report as Markdown for a pull request: the verdict first, then the tables, then what was run where."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from benchmarks.render.against_original import moved
from benchmarks.render.artifact import artifacts_that_ship, pair_table
from benchmarks.render.claims import control_lines, needs, unstable_lines, wrong_answers
from benchmarks.render.given_back import given_back_table
from benchmarks.render.tables import Line, Table, batch_table, engine_table, summary_table
from benchmarks.render.tables_detail import stage_table
from benchmarks.render.tables_writing import writing_table
from benchmarks.render.wording import duration
from benchmarks.report import Report

_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def report_markdown(report: Report) -> str:
    """The report as GitHub-flavoured Markdown; text from users and machines is escaped."""
    folded = [stage_table(report), *filter(None, (batch_table(report), given_back_table(report)))]
    stability = unstable_lines(report)
    parts = [
        f"# {escape(report.name)}",
        *(f"> **The machine was unstable, no speed claim is made.** {escape(line)}" for line in stability),
        "\n".join(_verdicts(report)),
        "\n\n".join(escape(line) for line in control_lines(report)),
        *(f"> **Wrong answers:** {escape(finding)}" for finding in wrong_answers(report)),
        *(f"> **Warning:** {escape(warning)}" for warning in report.warnings),
        _table(summary_table(report)),
        *_moved(report),
        *(_table(table) for table in filter(None, [writing_table(report)])),
        _table(engine_table(report)),
        *(_folded(escape(table.title), _table(table, heading=False)) for table in folded),
        *_on_device(report),
        *_origin(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: str) -> str:
    """Text that stays as it is in a paragraph or a table's cell: no markup, no HTML, no new line."""
    marked = re.sub(r"([\\`*|])", r"\\\1", " ".join(text.split()))
    return marked.replace("](", "]\\(").translate(_HTML)


def _verdicts(report: Report) -> Iterable[str]:
    for verdict in report.verdicts:
        findings = "".join(f"\n  - {escape(finding)}" for finding in verdict.findings)
        ships = f" with {escape(verdict.scheme)}" if verdict.scheme else ""
        more = needs(verdict)
        yield f"- **{escape(verdict.target)}: {verdict.decision}**{ships}{f', {more}' if more else ''}{findings}"


def _moved(report: Report) -> Iterable[str]:
    """What ships against the original, a line a target."""
    phrases = [(target, moved(report, target)) for target in report.targets]
    lines = [f"- {escape(target)}: {escape('; '.join(words))}" for target, words in phrases if words]
    if lines:
        yield "## What moved\n\n" + "\n".join(lines)


def _on_device(report: Report) -> Iterable[str]:
    """What a device has to know of what ships, a fold a target."""
    for artifact in artifacts_that_ship(report):
        pairs = _table(pair_table(artifact), heading=False)
        tables = (f"**{escape(table.title)}**\n\n{_table(table, heading=False)}" for table in artifact.tables)
        yield _folded(f"On the device: {escape(artifact.title)}", "\n\n".join((pairs, *tables)))


def _table(table: Table, heading: bool = True) -> str:
    headers = [escape(header) for header in table.headers]
    sides = [":--" if index < table.text_columns else "--:" for index in range(len(headers))]
    lines = [headers, sides, *(_cells(line, len(headers)) for line in table.lines)]
    drawn = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    notes = "".join(f"\n\n{escape(note)}" for note in table.notes)
    return f"{f'## {table.title}' if heading else ''}\n\n{drawn}{notes}".lstrip()


def _cells(line: Line, columns: int) -> list[str]:
    cells = [escape(cell) for cell in line.cells]
    if line.kind in ("heading", "chosen"):
        cells = [f"**{cell}**" if cell else "" for cell in cells]
    return cells + [""] * (columns - len(cells))


def _origin(report: Report) -> Iterable[str]:
    yield "## How it was made"
    yield _fence(report.command, "sh")
    yield f"edge-compress {escape(report.toolkit_version)}, {escape(report.created)}, {duration(report.duration_s)}, seed {report.seed}."
    yield _folded("Machine", _fence(_yaml(report.machine), "yaml"))
    yield _folded("Versions", _fence(_yaml(report.versions), "yaml"))
    yield _folded("Hashes", _fence(_yaml(report.hashes), "yaml"))
    yield _folded("Recipe", _fence(_yaml(report.recipe), "yaml"))


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


def _fence(text: str, language: str) -> str:
    """A code block whose fence is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _yaml(value: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True)
