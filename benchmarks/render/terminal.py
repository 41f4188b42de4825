"""A report in the terminal: what ships, every engine, the verdicts, the warnings, and where the files lie."""

from __future__ import annotations

import os
from pathlib import Path

import rich.table
from rich import box
from rich.console import Console
from rich.text import Text

from benchmarks.comparison.compare import Comparison
from benchmarks.comparison.devices import SideBySide, side_by_side_table
from benchmarks.comparison.table import comparison_table
from benchmarks.render.claims import control_line, instability, needs, wrong_answers
from benchmarks.render.given_back import given_back_table
from benchmarks.render.tables import Kind, Table, engine_table, summary_table
from benchmarks.render.tables_writing import writing_table
from benchmarks.render.wording import duration
from benchmarks.report import Report, Verdict

ROOMY = 128
"""Columns from which every ratio carries its interval."""

UNBOUNDED = 10_000
"""Columns; wider than any table."""

DECISION_STYLES: dict[str, str] = {
    "accepted": "bold green",
    "rejected": "bold red",
    "inconclusive": "bold yellow",
    "not run here": "yellow",
    "failed": "bold red",
}
_LINE_STYLES: dict[Kind, str] = {"plain": "", "heading": "bold cyan", "chosen": "bold", "dim": "dim"}


def print_report(report: Report, console: Console, run_folder: Path) -> None:
    """Print what a run cost and bought on each target; reads well from 100 columns on."""
    roomy = console.width >= ROOMY
    console.print()
    console.rule(Text(f"{report.name}: seed {report.seed}, {duration(report.duration_s)}"), style="dim")
    tables = (engine_table(report, torch_interval=roomy), writing_table(report), summary_table(report, intervals=roomy))
    for table in filter(None, tables):
        print_table(table, console)
    if given_back := given_back_table(report):
        print_table(given_back, console)
    for verdict in report.verdicts:
        _print_verdict(report, verdict, console)
    for finding in wrong_answers(report):
        console.print(Text.assemble(("wrong answers: ", "bold red"), finding))
    _print_warnings(report.warnings, console)
    _print_places(report, console, run_folder)


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print several runs side by side: what is not compared and why, every figure, and last what really got worse."""
    for refusal in comparison.refusals:
        console.print(Text.assemble(("not compared: ", "yellow"), refusal))
    for difference in comparison.across:
        console.print(Text.assemble(("beware: ", "yellow"), difference))
    print_table(comparison_table(comparison), console)
    console.print()
    for sentence in comparison.worse:
        console.print(Text.assemble(("worse: ", "bold red"), sentence))
    if not comparison.worse:
        console.print(Text("Nothing that was compared really got worse.", style="green"))


def print_devices(found: SideBySide, console: Console) -> None:
    """Print desk and devices side by side: what is the same, every figure, what is not compared, and what is wrong."""
    for sentence in found.same:
        console.print(Text.assemble(("same artifact: ", "green"), sentence))
    print_table(side_by_side_table(found), console)
    console.print()
    for words, style, sentences in (
        ("not compared: ", "yellow", found.refusals),
        ("warning: ", "yellow", found.warnings),
        ("wrong answers: ", "bold red", found.worse),
    ):
        for sentence in sentences:
            console.print(Text.assemble((words, style), sentence))


def print_table(table: Table, console: Console) -> None:
    """Print one table, figures to the right, its notes under it; optional columns go where there is no room."""
    drawn, left_out = _fit(table, console)
    console.print()
    console.print(Text(table.title, style="bold"))
    console.print(drawn)
    for note in (*table.notes, *left_out):
        console.print(Text(note, style="dim"))


def _fit(table: Table, console: Console) -> tuple[rich.table.Table, list[str]]:
    """The table drawn as roomy as fits, and a note on the columns that were left out."""
    tries = [(0, 2), *((dropped, 1) for dropped in range(len(table.optional) + 1))]
    for dropped, gap in tries:
        drawn = _draw(table, table.optional[:dropped], gap)
        if console.measure(drawn, options=console.options.update(max_width=UNBOUNDED)).maximum <= console.width:
            break
    names = ", ".join(table.headers[index].replace("\n", " ") for index in table.optional[:dropped])
    return drawn, [f"Left out for want of room: {names}; a wider terminal shows all."] if names else []


def _draw(table: Table, without: tuple[int, ...], gap: int) -> rich.table.Table:
    drawn = rich.table.Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, gap - 1), show_edge=False)
    kept = [index for index in range(len(table.headers)) if index not in without]
    for index in kept:
        words = index < table.text_columns
        drawn.add_column(Text(table.headers[index]), justify="left" if words else "right", overflow="fold")
    for line in table.lines:
        cells = [_cell(line.cells[index]) for index in kept if index < len(line.cells)]
        drawn.add_row(*cells, style=_LINE_STYLES[line.kind])
    return drawn


def _cell(words: str) -> Text:
    return Text(words, style=DECISION_STYLES.get(words, ""))


def _print_verdict(report: Report, verdict: Verdict, console: Console) -> None:
    more, control = needs(verdict), control_line(report, verdict.target)
    first = Text.assemble((verdict.target, "bold"), ": ", (verdict.decision, DECISION_STYLES[verdict.decision]))
    console.print()
    console.print(Text.assemble(first, f", {more}") if more else first)
    for finding in verdict.findings:
        console.print(Text(f"  {finding}"))
    if control:
        console.print(Text(f"  {control}", style="bold red" if instability(report, verdict.target) else "dim"))


def _print_warnings(warnings: tuple[str, ...], console: Console) -> None:
    if warnings:
        console.print()
    for warning in warnings:
        console.print(Text.assemble(("warning: ", "yellow"), warning))


def _print_places(report: Report, console: Console, run_folder: Path) -> None:
    places = {"report": run_folder / "report.html"}
    for target in report.targets:
        chosen = report.chosen(target)
        if chosen and chosen.files:
            places[target] = run_folder / os.path.commonpath([Path(file).parent for file in chosen.files])
    width = max(len(name) for name in places)
    console.print()
    for name, place in places.items():
        console.print(Text.assemble((f"{name:{width}}  ", "dim"), str(place)), soft_wrap=True)
