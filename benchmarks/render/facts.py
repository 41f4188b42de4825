"""What a step tells of itself is JSON of its own shape: here it becomes pairs of words and tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.render.tables import Line, Table
from benchmarks.render.wording import MISSING, byte_size

MAX_LINES = 500
"""Of one table; report.json has all."""

_TITLES = {
    "layers": "Channels of each layer",
    "candidates": "Cuts that were timed, in this order",
    "embeddings": "Tables of tokens",
    "validation_tokens_that_share_a_row": "share of validation tokens without a row of their own",
    "left_alone": "Left alone, and why",
    "epochs": "Training, epoch by epoch",
    "exactness": "largest difference to the same network with zeroed channels",
    "samples_per_s": "training samples per second",
    "validation": "metric on validation samples",
    "measured_over_predicted": "measured over predicted",
    "measured_over_macs_ratio": "measured over the ratio of multiply-accumulates",
    "skipped_blocks": "whole blocks and branches that went",
    "rounds": "Pruning, round by round",
    "control": "the same training without the teacher",
    "gain_over_control": "gain over training without the teacher",
    "accelerators": "Would an accelerator take it",
    "minimal_build": "smallest ONNX Runtime for it",
    "how_the_size_is_known": "size of the library",
    "gap_recovered": "share of the remaining gap to the teacher that it closed",
}


def fact_pairs(facts: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Every single value, nested ones with the words of their path before them."""
    for key, value in facts.items():
        name = f"{prefix}{_title(key)}"
        if str(key).endswith("_bytes") and isinstance(value, int):
            yield name.removesuffix(" bytes"), byte_size(value)
            continue
        if isinstance(value, Mapping):
            yield from fact_pairs(value, f"{name}: ")
        elif not _is_table(value):
            yield name, spell(value)


def fact_tables(facts: Mapping[str, Any]) -> Iterable[Table]:
    """Every list of mappings as a table; its columns are all the keys met."""
    for key, value in facts.items():
        if isinstance(value, Mapping):
            yield from fact_tables(value)
        elif _is_table(value):
            yield _table(_title(key), value)


def spell(value: Any) -> str:
    """A plain JSON value in a few words; floats with four significant digits."""
    if value is None or value in ([], {}, ""):
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ") if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {spell(entry)}" for key, entry in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(spell(entry) for entry in value)
    return str(value)


def _table(title: str, entries: Sequence[Mapping[str, Any]]) -> Table:
    found = dict.fromkeys(key for entry in entries for key in entry)
    words = {key for key in found if any(isinstance(entry.get(key), (str, list, dict)) for entry in entries)}
    keys = sorted(found, key=lambda key: key not in words)
    lines = tuple(Line(tuple(spell(entry.get(key)) for key in keys)) for entry in entries[:MAX_LINES])
    left = len(entries) - MAX_LINES
    notes = (f"{left} more lines in report.json.",) if left > 0 else ()
    return Table(
        f"{title} ({len(entries)})", tuple(_title(key) for key in keys), lines, text_columns=len(words), notes=notes
    )


def _is_table(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(entry, Mapping) for entry in value)


def _title(key: str) -> str:
    return _TITLES.get(key, str(key).replace("_", " "))
