from __future__ import annotations

import pytest

from benchmarks.render.facts import MAX_LINES, fact_pairs, fact_tables, spell

PRUNE = {
    "asked": {"speedup": 2.0},
    "macs": {"before": 40_800_000, "after": 19_600_000},
    "exactness": 2.4e-7,
    "layers": [{"before": 32, "after": 16, "name": "conv1"}],
    "left_alone": [],
    "memory_bytes": 16_000_000_000,
}


def test_nested_values_carry_their_path() -> None:
    pairs = dict(fact_pairs(PRUNE))
    assert pairs["asked: speedup"] == "2"
    assert pairs["macs: before"] == "40 800 000"
    assert pairs["Left alone, and why"] == "–"
    assert pairs["memory"] == "16.0 GB"


def test_a_list_of_mappings_is_a_table_with_words_first() -> None:
    [table] = fact_tables(PRUNE)
    assert table.title == "Channels of each layer (1)"
    assert (table.headers, table.lines[0].cells, table.text_columns) == (
        ("name", "before", "after"),
        ("conv1", "32", "16"),
        1,
    )


def test_unlike_entries_share_one_table() -> None:
    [table] = fact_tables({"steps": [{"a": 1}, {"b": 2}]})
    assert [line.cells for line in table.lines] == [("1", "–"), ("–", "2")]


def test_a_long_table_says_what_is_left_out() -> None:
    [table] = fact_tables({"layers": [{"name": "x"}] * (MAX_LINES + 3)})
    assert table.notes == ("3 more lines in report.json.",)


@pytest.mark.parametrize(
    ("value", "words"),
    [(True, "yes"), (0, "0"), (0.0, "0"), (12_345, "12 345"), (2.4e-7, "2.4e-07"), ([1, "a"], "1, a"), (None, "–")],
)
def test_plain_values(value: object, words: str) -> None:
    assert spell(value) == words
