"""No path, user name or host of the building machine leaves it: exporters put them where nobody looks."""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path

from export.bundle.archive import chunks_of
from export.errors import SecurityError

SHORTEST = 5
"""Letters of a user or host name from which it is looked for: a shorter one stands in many files by chance."""


def check_private(files: Mapping[str, Path]) -> None:
    """Look through every byte of what is about to ship.

    Raises:
        SecurityError: naming the file and what was found in it.
    """
    wanted = _private()
    overlap = max(map(len, wanted))
    for name, path in files.items():
        kept = b""
        for chunk in chunks_of(path):
            seen = kept + chunk
            for private in wanted:
                if re.search(rb"(?<![A-Za-z0-9])" + re.escape(private) + rb"(?![A-Za-z0-9])", seen):
                    raise SecurityError(
                        f"{name}: holds '{private.decode(errors='replace')}', a path or name of this machine; "
                        "it must not ship, report it with the model's exporter"
                    )
            kept = seen[-overlap - 1 :]


def _private() -> list[bytes]:
    """The home and current folder and the interpreter's, and the names of user and host where they say something."""
    folders = {str(Path.home()), str(Path.cwd()), str(Path(os.__file__).resolve().parent)}
    names = {socket.gethostname(), socket.getfqdn()} | {_user()}
    found = {folder for folder in folders if len(Path(folder).parts) > 1}
    return [
        each.encode()
        for each in sorted(found | {name for name in names if len(name) >= SHORTEST and name != "localhost"})
    ]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
