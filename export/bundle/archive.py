"""A bundle as one file: a zip archive without compression, in the one form that its names and contents allow.

Any unzip opens it. Reading it here goes the other way round than usual: the names, sizes and checksums are taken from the
central directory, the archive that they would give is laid out again, and every byte that is not content must be the
same. So there is nothing between, before, behind or hidden in the headers, nothing overlaps, and nothing can unpack to
more than the archive's own size.

Source: PKWARE APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12 and 4.3.16.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from export.bundle.names import LONGEST, shown
from export.errors import SecurityError, UnsupportedError

MOST_FILES = 1000
LARGEST_BYTES = 0xFFFFFFFF - (1 << 20)
"""Beyond it a zip archive takes another form (zip64); such a bundle stays a folder."""
CHUNK_BYTES = 1 << 20

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_VERSION, _DAY = 20, 0x21
"""2.0, and the first of January 1980, from which zip counts."""


@dataclass(frozen=True)
class Entry:
    """A file in the archive: checksum and size of its content, and where its local header begins."""

    name: str
    crc: int
    size_bytes: int
    offset: int

    @property
    def start(self) -> int:
        """Where the content begins."""
        return self.offset + _LOCAL.size + len(self.name)

    @property
    def end(self) -> int:
        return self.start + self.size_bytes

    def local(self) -> bytes:
        name = self.name.encode("ascii")
        size = self.size_bytes
        return _LOCAL.pack(b"PK\3\4", _VERSION, 0, 0, 0, _DAY, self.crc, size, size, len(name), 0) + name

    def central(self) -> bytes:
        name = self.name.encode("ascii")
        size = self.size_bytes
        fields = (b"PK\1\2", _VERSION, _VERSION, 0, 0, 0, _DAY, self.crc, size, size, len(name))
        return _CENTRAL.pack(*fields, 0, 0, 0, 0, 0, self.offset) + name


def write_archive(files: Mapping[str, Path], out: Path) -> None:
    """Write `files`, by their names in the archive, in the order of the names.

    Raises:
        UnsupportedError: if there are too many, or they are too large for this form.
    """
    if len(files) > MOST_FILES:
        raise UnsupportedError(f"{out.name}: {len(files)} files, a bundle may hold {MOST_FILES}")
    total = sum(path.stat().st_size for path in files.values())
    if total > LARGEST_BYTES:
        raise UnsupportedError(
            f"{out.name}: {total / 1e9:.1f} GB are too much for a bundle of one file; pack it as a folder (-o FOLDER/)"
        )
    entries: list[Entry] = []
    offset = 0
    with out.open("wb") as archive:
        for name in sorted(files):
            crc = 0
            for chunk in chunks_of(files[name]):
                crc = zlib.crc32(chunk, crc)
            entry = Entry(name, crc, files[name].stat().st_size, offset)
            archive.write(entry.local())
            for chunk in chunks_of(files[name]):
                archive.write(chunk)
            entries.append(entry)
            offset = entry.end
        archive.write(_tail(entries))


def read_entries(archive: BinaryIO, size_bytes: int) -> list[Entry]:
    """The files of an archive of so many bytes, in order; contents are not read.

    Raises:
        SecurityError: if it is not an archive in the form of `write_archive`.
    """
    if size_bytes < _END.size:
        raise SecurityError(f"it is no bundle: {size_bytes} bytes are too few; fetch it again")
    archive.seek(size_bytes - _END.size)
    magic, _, _, _, count, length, start, _ = _END.unpack(_exactly(archive, _END.size))
    if magic != b"PK\5\6":
        raise SecurityError("it is no whole bundle: its end is missing; fetch it again")
    largest = min(count, MOST_FILES) * (_CENTRAL.size + LONGEST)
    if count > MOST_FILES or length > largest or start + length + _END.size != size_bytes:
        raise SecurityError("it is no bundle: its directory does not end where the file does; fetch it again")
    archive.seek(start)
    entries = list(_entries(_exactly(archive, length), count))
    if [entry.name for entry in entries] != sorted({entry.name for entry in entries}):
        raise SecurityError("its directory is not in the order of the names, or names a file twice; nothing was read")
    offset = 0
    for entry in entries:
        if entry.offset != offset:
            raise SecurityError(f"{shown(entry.name)} does not begin where the file before it ends; nothing was read")
        archive.seek(offset)
        if archive.read(entry.start - offset) != entry.local():
            raise SecurityError(f"the header of {shown(entry.name)} is not the one that belongs to it; fetch it again")
        offset = entry.end
    archive.seek(start)
    if offset != start or archive.read() != _tail(entries):
        raise SecurityError("its directory holds something else than names, sizes and checksums; fetch it again")
    return entries


def contents(archive: BinaryIO, entry: Entry) -> Iterator[bytes]:
    """The content of a file in pieces.

    Raises:
        SecurityError: if it does not have the checksum of its header.
    """
    archive.seek(entry.start)
    left, crc = entry.size_bytes, 0
    while left:
        chunk = _exactly(archive, min(CHUNK_BYTES, left))
        left, crc = left - len(chunk), zlib.crc32(chunk, crc)
        yield chunk
    if crc != entry.crc:
        raise SecurityError(f"{entry.name}: its content does not have the checksum of its header; fetch it again")


def chunks_of(path: Path) -> Iterator[bytes]:
    """A file in pieces."""
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def _entries(directory: bytes, count: int) -> Iterator[Entry]:
    place = 0
    for _ in range(count):
        fields = directory[place : place + _CENTRAL.size]
        if len(fields) < _CENTRAL.size:
            raise SecurityError("its directory is cut short; fetch it again")
        values = _CENTRAL.unpack(fields)
        name_bytes = directory[place + _CENTRAL.size : place + _CENTRAL.size + values[10]]
        try:
            name = name_bytes.decode("ascii")
        except UnicodeDecodeError as error:
            name = name_bytes.decode("utf-8", errors="replace")
            raise SecurityError(f"the file name {shown(name)} is not ASCII; nothing was read") from error
        yield Entry(name, values[7], values[8], values[16])
        place += _CENTRAL.size + values[10]


def _tail(entries: list[Entry]) -> bytes:
    directory = b"".join(entry.central() for entry in entries)
    start = entries[-1].end if entries else 0
    return directory + _END.pack(b"PK\5\6", 0, 0, len(entries), len(entries), len(directory), start, 0)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    found = stream.read(size)
    if len(found) < size:
        raise SecurityError("it ends too early; fetch it again")
    return found
