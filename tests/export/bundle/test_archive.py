"""The archive against Python's zipfile, and every way to say something in a zip that is not a name, size or content."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from export.bundle.archive import LARGEST_BYTES, MOST_FILES, contents, read_entries, write_archive
from export.errors import SecurityError, UnsupportedError
from tests.export.bundle.bundles import write_folder, zip_bytes

FILES = {"b/two": b"second", "a": b"first" * 9, "c": b""}


def archived(folder: Path, files: Mapping[str, bytes]) -> bytes:
    write_folder(files, folder / "files")
    write_archive({name: folder / "files" / name for name in files}, folder / "archive")
    return (folder / "archive").read_bytes()


def read(archive: bytes) -> dict[str, bytes]:
    stream = io.BytesIO(archive)
    return {entry.name: b"".join(contents(stream, entry)) for entry in read_entries(stream, len(archive))}


def test_what_is_written_is_a_zip_that_others_read(tmp_path: Path) -> None:
    content = archived(tmp_path, FILES)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == FILES
    assert read(content) == FILES
    assert content == zip_bytes(FILES), "field by field as APPNOTE.TXT says"


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    again = dict(reversed(FILES.items()))
    assert archived(tmp_path / "one", FILES) == archived(tmp_path / "two", again)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("deflated", "does not begin where|the header of 'a' is not"),
        ("flags", "the header of 'a' is not the one that belongs to it"),
        ("order", "is not in the order of the names, or names a file twice"),
        ("twice", "is not in the order of the names, or names a file twice"),
        ("gap", "'b/two' does not begin where the file before it ends"),
        ("overlap", "the header of 'a' is not the one that belongs to it"),
        ("front", "'a' does not begin where the file before it ends"),
        ("checksum", "a: its content does not have the checksum of its header"),
        ("unicode", r"the file name 'mod\\u0435l' is not ASCII"),
        ("bytes", r"the file name '\\ufffd\\ufffd' is not ASCII"),
        ("comment", "its end is missing"),
        ("entry comment", "its directory holds something else than names, sizes and checksums"),
        ("large directory", "its directory does not end where the file does"),
        ("many", "its directory does not end where the file does"),
        ("short", "its directory is cut short"),
        ("empty", "it is no bundle: 0 bytes are too few"),
    ],
)
def test_an_archive_in_another_form_is_refused_with_the_reason(name: str, reason: str) -> None:
    squeezed = zlib.compress(FILES["a"])[2:-4]
    packed = {"method": 8, "packed": len(squeezed)}
    archive = {
        "deflated": zip_bytes(FILES, local=packed | {"content": squeezed}, central=packed),
        "flags": zip_bytes(FILES, local={"flags": 1}, central={"flags": 1}),
        "order": zip_bytes(list(FILES.items()), ordered=False),
        "twice": zip_bytes([("a", b"1"), ("a", b"2")]),
        "gap": zip_bytes(FILES, end={"between": b"hidden"}),
        "overlap": zip_bytes(FILES, central={"size": 44, "packed": 44}),
        "front": zip_bytes(FILES, end={"before": b"#!/bin/sh\n"}),
        "checksum": zip_bytes(FILES, local={"crc": 1}, central={"crc": 1}),
        "unicode": zip_bytes({"mod\u0435l": b"x"}),
        "bytes": zip_bytes({"xy": b"x"}, local={"name": b"\xff\xfe"}, central={"name": b"\xff\xfe"}),
        "comment": zip_bytes(FILES, end={"comment": b"x"}),
        "entry comment": zip_bytes(FILES, central={"comment": b""}, end={"disk": 1}),
        "large directory": zip_bytes({"a": b"x"}, central={"comment": bytes(1000)}),
        "many": zip_bytes({str(number): b"" for number in range(MOST_FILES + 1)}),
        "short": zip_bytes(FILES, end={"total": 4}),
        "empty": b"",
    }[name]
    with pytest.raises(SecurityError, match=reason) as found:
        read(archive)
    assert str(found.value).isprintable()


def test_a_directory_that_claims_gigabytes_is_not_read() -> None:
    """Half of the file would be taken into memory."""

    class Counting(io.BytesIO):
        most = 0

        def read(self, size: int | None = -1) -> bytes:
            found = super().read(size)
            self.most = max(self.most, len(found))
            return found

    length = 1 << 22
    archive = Counting(bytes(length) + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1000, 1000, length, 0, 0))
    with pytest.raises(SecurityError):
        read_entries(archive, length + 22)
    assert archive.most < 1000


def test_too_many_or_too_large_files_are_not_written(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(UnsupportedError, match=f"{MOST_FILES + 1} files, a bundle may hold {MOST_FILES}"):
        write_archive({str(number): tmp_path / "x" for number in range(MOST_FILES + 1)}, tmp_path / "out")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(LARGEST_BYTES + 1)
    with pytest.raises(UnsupportedError, match=r"4\.3 GB are too much .*; pack it as a folder"):
        write_archive({"x": tmp_path / "sparse"}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pythons_own_unzip_gives_the_files(tmp_path: Path) -> None:
    archived(tmp_path, FILES)
    subprocess.run(
        [sys.executable, "-m", "zipfile", "-e", str(tmp_path / "archive"), str(tmp_path / "out")], check=True
    )
    assert {name: (tmp_path / "out" / name).read_bytes() for name in FILES} == FILES
