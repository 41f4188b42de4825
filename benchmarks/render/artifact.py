"""What a device has to know of each artifact that ships: the options it runs with, and what its target tells of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.render.facts import fact_pairs, fact_tables
from benchmarks.render.tables import Line, Table
from benchmarks.render.wording import MISSING
from benchmarks.report import Report


@dataclass(frozen=True)
class Artifact:
    """One target's, ready to draw."""

    title: str
    pairs: Sequence[tuple[str, str]]
    tables: Sequence[Table]


def artifacts_that_ship(report: Report) -> list[Artifact]:
    """One a target that tells anything, in the order of the report."""
    chosen = [row for row in map(report.chosen, report.targets) if row and (row.settings or row.facts)]
    return [
        Artifact(
            f"{row.target} {row.scheme}",
            [pair for values in (row.settings, row.facts) for pair in fact_pairs(values) if pair[1] != MISSING],
            list(fact_tables(row.facts)),
        )
        for row in chosen
    ]


def pair_table(artifact: Artifact) -> Table:
    """The pairs as a table, for where there is no list of pairs."""
    return Table(artifact.title, ("what", ""), tuple(Line(pair) for pair in artifact.pairs), text_columns=2)
