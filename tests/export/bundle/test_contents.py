from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from export.bundle.archive import MOST_FILES
from export.bundle.contents import open_contents
from export.errors import InputError, SecurityError
from tests.export.bundle.bundles import write_folder, zip_bytes

FILES = {"a": b"one", "b/two": b"second"}


def test_a_folder_and_an_archive_hold_the_same(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(zip_bytes(FILES))
    for path in (write_folder(FILES, tmp_path / "folder"), tmp_path / "archive"):
        found = open_contents(path)
        assert dict(found.sizes) == {"a": 3, "b/two": 6}
        assert {name: b"".join(found.read(name)) for name in found.sizes} == FILES


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("nowhere", "dangling"):
        with pytest.raises(
            InputError, match=f"{name}: No such file or directory; give a bundle, a file or folder made by"
        ):
            open_contents(tmp_path / name)


def test_a_link_to_an_archive_is_followed_one_to_a_folder_is_not(tmp_path: Path) -> None:
    """The path is the user's own; but a folder is used where it lies, and a link could lead elsewhere afterwards."""
    (tmp_path / "archive").write_bytes(zip_bytes(FILES))
    write_folder(FILES, tmp_path / "folder")
    for name in ("archive", "folder"):
        (tmp_path / f"to-{name}").symlink_to(tmp_path / name)
    assert dict(open_contents(tmp_path / "to-archive").sizes) == {"a": 3, "b/two": 6}
    with pytest.raises(SecurityError, match="it is neither a file nor a folder, or a link to a folder"):
        open_contents(tmp_path / "to-folder")


@pytest.mark.skipif(os.name == "nt", reason="makes POSIX links and pipes")
@pytest.mark.parametrize("kind", ["link", "link to a folder", "dangling link", "pipe", "socket"])
def test_what_is_no_plain_file_is_refused(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, outside = write_folder(FILES, tmp_path / "f"), write_folder({"x": b""}, tmp_path / "o")
    place = folder / "b" / "odd"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "socket":
        monkeypatch.chdir(place.parent)  # a socket's path has 100 characters at most
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(place.name)
    else:
        place.symlink_to({"link": outside / "x", "link to a folder": outside, "dangling link": "nowhere"}[kind])
    with pytest.raises(SecurityError, match="'b/odd' is a link or a device, not a file; nothing was read"):
        open_contents(folder)


def test_a_hard_link_is_refused(tmp_path: Path) -> None:
    """Whoever holds the other name could change the file after it was verified."""
    folder = write_folder(FILES, tmp_path / "f")
    (tmp_path / "other").hardlink_to(folder / "a")
    with pytest.raises(SecurityError, match="'a' is a file with a second name elsewhere; nothing was read"):
        open_contents(folder)


def test_an_empty_folder_is_something_that_was_added(tmp_path: Path) -> None:
    folder = write_folder(FILES, tmp_path / "f")
    (folder / "b" / "new").mkdir()
    with pytest.raises(SecurityError, match="the folder 'b/new/' is empty; the bundle was changed after packing"):
        open_contents(folder)


def test_files_and_folders_are_counted_over_all_folders(tmp_path: Path) -> None:
    for number in range(MOST_FILES // 20 + 1):
        write_folder({f"{number}/{file}": b"" for file in range(20)}, tmp_path / "f")
    with pytest.raises(SecurityError, match=f"it holds more than {MOST_FILES} files and folders"):
        open_contents(tmp_path / "f")


def test_a_deep_folder_is_not_walked_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "f" / "/".join("d" * 50)).mkdir(parents=True)
    with pytest.raises(SecurityError, match="it lies 7 folders deep, at most 6 are allowed"):
        open_contents(tmp_path / "f")
