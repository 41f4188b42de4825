"""Rows of texts from CSV and TSV files, with the line that each stands on."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from compress.ready import ReadyContext
from compress.ready.holding_out import NAMES
from export.errors import InputError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
LONGEST_FIELD = 10_000_000
"""Characters; Python's own limit, 131,072, is less than a long document."""


@dataclass(frozen=True)
class Row:
    """The texts of one sample, one or two, its label (or what else stands in the last column asked for), and its place."""

    texts: tuple[str, ...]
    label: str
    path: Path
    line: int

    @property
    def where(self) -> str:
        return f"{self.path}:{self.line}"

    @property
    def key(self) -> str:
        """What the sample is told apart by when some are held out: equal texts stay together."""
        return "\n".join(self.texts)


def split_files(path: Path, endings: Sequence[str], context: ReadyContext, option: str) -> dict[str, Path]:
    """The files of the splits of a folder by name ("train", "validation", "evaluation"); a file itself is "train".

    Raises:
        InputError: if a folder has no training file, or two files for one split.
    """
    allowed = " or ".join(endings)
    if path.is_file():
        if path.suffix not in endings:
            raise context.refusal(option, f"{path.name} must end in {allowed}")
        return {"train": path}
    found: dict[str, Path] = {}
    for split, names in NAMES.items():
        files = [path / f"{name}{ending}" for name in names for ending in endings]
        there = [file for file in files if file.is_file()]
        if len(there) > 1:
            raise context.refusal(
                option, f"{there[0].name} and {there[1].name} are both {split} files; keep one of them"
            )
        found |= dict.fromkeys([split][: len(there)], there[0]) if there else {}
    if "train" not in found:
        named = ", ".join(sorted(entry.name for entry in path.iterdir())[:5]) or "nothing"
        raise context.refusal(
            option,
            f"the folder has no train{endings[0]}; it must hold train, and may hold validation and test, each ending in "
            f"{allowed}; found {named}",
        )
    return found


def read_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """The rows of a file with a header, in its order.

    A .tsv file is read as it stands (a quotation mark is a character), a .csv file with the usual quoting.

    Args:
        columns: names of those with the texts, and of that with the label, which comes last.

    Raises:
        InputError: names file and line of what cannot be read.
    """
    lines = _lines(path)
    _, header = next(lines)
    lacking = [name for name in columns if name not in header]
    if lacking:
        raise InputError(f"{path}:1: there is no column '{lacking[0]}'; the header has {', '.join(header)}")
    places, rows = [header.index(name) for name in columns], []
    for number, fields in lines:
        if len(fields) != len(header):
            raise InputError(f"{path}:{number}: found {len(fields)} columns, the header has {len(header)}")
        *texts, label = (fields[place].strip() for place in places)
        if not all(texts) or not label:
            empty = columns[[*texts, label].index("")]
            raise InputError(f"{path}:{number}: column '{empty}' is empty; fill it in, or remove the line")
        rows.append(Row(tuple(texts), label, path, number))
    if not rows:
        raise InputError(f"{path}: no row under the header; it must hold at least one")
    return rows


def header_of(path: Path) -> list[str]:
    """The names of the columns."""
    return next(_lines(path))[1]


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The number of the line that each row begins on, and its fields; the header comes first."""
    tabs = path.suffix == ".tsv"
    csv.field_size_limit(LONGEST_FIELD)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(
                file,
                delimiter=DELIMITERS[path.suffix],
                quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
                strict=not tabs,
            )
            first, seen = 1, False
            for fields in reader:
                if fields:
                    seen = True
                    yield first, fields
                first = reader.line_num + 1
            if not seen:
                raise InputError(f"{path}: is empty; the first line must name the columns")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: cannot be read as a table: {error}") from error
