"""The files of a bundle, in a folder or in an archive: their names, sizes and bytes, and nothing more."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Protocol

from export.bundle.archive import MOST_FILES, chunks_of, contents, read_entries
from export.bundle.names import check_names, shown
from export.errors import InputError, SecurityError


class Contents(Protocol):
    """Files by name, `/` between folders; `read` gives the bytes in pieces."""

    @property
    def sizes(self) -> Mapping[str, int]: ...

    def read(self, name: str) -> Iterator[bytes]: ...


def open_contents(path: Path) -> Contents:
    """What lies in a bundle; only names and sizes are looked at.

    Raises:
        InputError: if there is nothing at `path`.
        SecurityError: if it is no archive in the canonical form, holds anything but plain files, or a name is refused.
    """
    try:
        kind, meant = path.lstat().st_mode, path.stat().st_mode
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}; give a bundle, a file or folder made by `compress pack`"
        ) from error
    found: Contents
    if stat.S_ISDIR(kind):
        found = FolderContents(path)
    elif stat.S_ISREG(meant):
        found = ArchiveContents(path)
    else:
        raise SecurityError("it is neither a file nor a folder, or a link to a folder; nothing was read")
    check_names(found.sizes)
    return found


class FolderContents:
    """A bundle as a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._counted = 0
        self.sizes: dict[str, int] = dict(sorted(self._walk("")))

    def read(self, name: str) -> Iterator[bytes]:
        return chunks_of(self.folder / name)

    def _walk(self, inside: str) -> Iterator[tuple[str, int]]:
        entries = list(islice(os.scandir(self.folder / inside), MOST_FILES + 1))
        self._counted += len(entries)
        if self._counted > MOST_FILES:
            raise SecurityError(f"it holds more than {MOST_FILES} files and folders; nothing was read")
        if inside and not entries:
            raise SecurityError(f"the folder {shown(inside)} is empty; the bundle was changed after packing")
        for entry in entries:
            name, status = inside + entry.name, entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                check_names([name])
                yield from self._walk(name + "/")
            elif not stat.S_ISREG(status.st_mode):
                raise SecurityError(f"{shown(name)} is a link or a device, not a file; nothing was read")
            elif status.st_nlink > 1:
                raise SecurityError(f"{shown(name)} is a file with a second name elsewhere; nothing was read")
            else:
                yield name, status.st_size


class ArchiveContents:
    """A bundle as one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as archive:
            self._entries = {entry.name: entry for entry in read_entries(archive, path.stat().st_size)}
        self.sizes = {name: entry.size_bytes for name, entry in self._entries.items()}

    def read(self, name: str) -> Iterator[bytes]:
        with self._path.open("rb") as archive:
            yield from contents(archive, self._entries[name])
