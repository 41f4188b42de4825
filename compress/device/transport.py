"""How a command reaches a device: one method, whatever lies between."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from export.errors import EnvironmentFailure

Told = Callable[[str], None]
NO_COMMAND = (126, 127)
"""What a shell answers where a command is not there, or cannot be executed."""


class ConnectionLost(EnvironmentFailure):
    """The connection broke, or could not be made; once it stood, what was asked may be asked again."""


@dataclass(frozen=True)
class Ran:
    """A command's exit code and what it wrote to standard error."""

    code: int
    error: str


class Transport(Protocol):
    """A way to one device."""

    @property
    def address(self) -> str:
        """As the user wrote it; it stands in messages, never in a report."""

    @property
    def python(self) -> str:
        """The interpreter there."""

    @property
    def folder(self) -> str:
        """Where on the device files are put; `~` is the home folder there."""

    def run(self, words: Sequence[str], told: Told, source: Path | None = None) -> Ran:
        """Run a command there; each line of its output goes to `told` as it comes.

        Args:
            source: a file whose bytes are the command's standard input.

        Raises:
            EnvironmentFailure: if the device refuses; what to do about it is said.
            SecurityError: if it is not the machine that it was.
            ConnectionLost: if it cannot be reached, or the connection broke.
        """
        ...


def carried_out(
    words: Sequence[str], told: Told, source: Path | None = None, environment: Mapping[str, str] | None = None
) -> Ran:
    """Run a command on this machine, its output line by line.

    Raises:
        EnvironmentFailure: if there is no such command.
    """
    try:
        with source.open("rb") if source is not None else Path(os.devnull).open("rb") as stdin:
            process = subprocess.Popen(
                list(words), stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
            )
    except (FileNotFoundError, PermissionError) as error:
        return Ran(NO_COMMAND[1], f"{error.filename}: {error.strerror}")
    assert process.stdout is not None and process.stderr is not None
    errors: list[bytes] = []
    reader = threading.Thread(target=lambda stream: errors.append(stream.read()), args=(process.stderr,), daemon=True)
    reader.start()
    try:
        for line in process.stdout:
            told(line.decode(errors="replace").rstrip("\r\n"))
        code = process.wait()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()
        process.stdout.close()
    reader.join(timeout=5.0)
    return Ran(code, b"".join(errors).decode(errors="replace"))
