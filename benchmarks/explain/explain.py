"""Why an engine is not faster: the figures, what they say, and the three changes that are worth most."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.explain.changes import changes
from benchmarks.explain.figures import Explanation, Subject, figures
from benchmarks.explain.findings import findings

CHANGES_SHOWN = 3


def explain(subject: Subject) -> Explanation:
    """Arithmetic alone: the profiles and the roofline are measured before."""
    bare = figures(subject)
    return replace(
        bare,
        findings=tuple(findings(bare, subject)),
        changes=tuple(changes(bare, subject)[:CHANGES_SHOWN]),
    )
