"""The folder of one run: held by one process, every part written under a temporary name and renamed when whole."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from export.errors import EnvironmentFailure, InputError

KEY_FILE = "key.json"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NEARLY_NOTHING_BYTES = 1_000_000


class RunDirectory:
    """runs/<name>: stages, artifacts and reports. A context manager that holds the folder while it is open.

    A part (a stage, an artifact) carries the key of all that went into it. A part whose key is found again is
    reused, so a run that was interrupted continues where it was, and a changed recipe redoes only what it changed.

    Raises:
        EnvironmentFailure: if another process holds the folder, or it cannot be written.
        InputError: if the path is a file, or a folder that is not a run's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path / ".lock", timeout=0)
        self._used: set[Path] = set()

    def part(self, place: str, key: Mapping[str, Any], build: Callable[[Path], None]) -> tuple[Path, bool]:
        """The finished folder at `place`, and whether it was there already; else `build` fills a temporary folder.

        Args:
            place: relative to the run's folder, with '/' between parts ("artifacts/openvino/int8").
            key: plain JSON values; everything that the content depends on.
        """
        final = self.path / place
        self._used.add(final)
        digest = digest_of(key)
        if _stored_digest(final) == digest:
            return final, True
        partial = final.with_name(f".{final.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            build(partial)
            (partial / KEY_FILE).write_text(json.dumps({"digest": digest, "key": key}, indent=1, sort_keys=True) + "\n")
            _replace_folder(partial, final)
        except BaseException as error:
            shutil.rmtree(partial, ignore_errors=True)
            if isinstance(error, Exception) and self._disk_is_full(error):
                raise EnvironmentFailure(self._full_message(place)) from error
            raise
        return final, False

    def scratch(self, place: str, key: Mapping[str, Any]) -> Path:
        """A folder for what must outlive an interruption; tied to the key, so that no other work resumes from it."""
        folder = self.path / ".scratch" / f"{place.replace('/', '-')}-{digest_of(key)[:16]}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def drop_scratch(self) -> None:
        """Remove what was kept for resuming: everything it led to is whole."""
        shutil.rmtree(self.path / ".scratch", ignore_errors=True)

    def drop_leftovers(self) -> None:
        """Remove the parts that this run neither made nor reused: an earlier recipe left them."""
        for key_file in list(self.path.rglob(KEY_FILE)):
            if key_file.parent not in self._used:
                shutil.rmtree(key_file.parent)
                if not any(key_file.parent.parent.iterdir()):
                    key_file.parent.parent.rmdir()

    def __enter__(self) -> Self:
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path}: is a file; --out takes a folder")
        entries = [entry.name for entry in self.path.iterdir()] if self.path.is_dir() else []
        strangers = [name for name in entries if name not in _OWN and not name.startswith(".")]
        if strangers:
            raise InputError(
                f"{self.path}: holds '{min(strangers)}', which is not of a run; "
                "give a new folder or a run's own folder with --out"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout as error:
            raise EnvironmentFailure(
                f"{self.path}: another run holds this folder ({_holder(self.path)}); wait for it or give another --out"
            ) from error
        except OSError as error:
            reason = self._full_message("the run's folder") if error.errno in _FULL else error.strerror
            raise EnvironmentFailure(f"{self.path}: cannot write there: {reason}") from error
        (self.path / ".holder").write_text(f"process {os.getpid()}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        (self.path / ".holder").unlink(missing_ok=True)
        self._lock.release()

    def _disk_is_full(self, error: Exception) -> bool:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        return shutil.disk_usage(self.path).free < _NEARLY_NOTHING_BYTES

    def _full_message(self, place: str) -> str:
        free = shutil.disk_usage(self.path if self.path.exists() else self.path.parent).free
        return (
            f"{self.path}: the disk is full while writing {place} ({free / 1e6:.1f} MB free); "
            "nothing half-written was kept. Free some space or give another --out, then run again: finished parts are reused"
        )


_OWN = {"stages", "artifacts", "report.json", "report.md", "report.html", "recipe.yaml", "samples.npz", "device"}


def digest_of(key: Mapping[str, Any]) -> str:
    """sha256 over the key's JSON, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def fields_of(settings: object) -> Any:
    """The fields of a step or target, a frozen dataclass, as plain JSON values for a key."""
    return json.loads(json.dumps(asdict(settings), default=str))  # type: ignore[call-overload]  # the protocols do not say dataclass


def sha256_of(file: Path) -> str:
    """sha256 of a file, read in pieces."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _stored_digest(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / KEY_FILE).read_text())["digest"])
    except (OSError, ValueError, KeyError):
        return None


def _replace_folder(partial: Path, final: Path) -> None:
    """Put `partial` in the place of `final`; an older `final` is out of the way for the moment of two renames only."""
    old = final.with_name(f".{final.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    partial.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def _holder(path: Path) -> str:
    try:
        return (path / ".holder").read_text()
    except OSError:
        return "its process is not known"
