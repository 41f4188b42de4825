"""No path, user name or host of the building machine leaves it: exporters put them where nobody looks."""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

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
            for private, pattern in wanted.items():
                if re.search(pattern, seen):
                    raise SecurityError(
                        f"{name}: holds '{private}', a path or name of this machine; it must not ship: "
                        "take it out of the recipe or workload, or report it with the model's exporter"
                    )
            kept = seen[-overlap - 2 :]


def without_folders(value: Any) -> Any:
    """A recipe's values with every absolute path cut to its last part: `.../weights.safetensors`, `.../workload.py:network`."""
    if isinstance(value, Mapping):
        return {key: without_folders(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(each) for each in value]
    if isinstance(value, str) and (value.startswith("~") or PurePosixPath(value).is_absolute() or _of_windows(value)):
        return f".../{PureWindowsPath(value).name}"
    return value


def _of_windows(value: str) -> bool:
    return PureWindowsPath(value).is_absolute()


def _private() -> dict[str, bytes]:
    """The home and current folder and the interpreter's, and the names of user and host where they say something.

    A user's name is one only in a path or an address: "runner" and "pytorch" are words in every bundle. For the same reason
    a current folder like /model counts only from its second part on.

    Returns:
        Name -> the pattern that it is found by.
    """
    home, here, library = Path.home(), Path.cwd(), Path(os.__file__).resolve().parent
    folders = {home, library} | ({here} if len(here.parts) > 2 else set())
    hosts = {socket.gethostname(), socket.getfqdn()} - {"localhost"}
    found = {
        host: b"(?<![A-Za-z0-9])" + re.escape(host.encode()) + b"(?![A-Za-z0-9])"
        for host in sorted(hosts)
        if len(host) >= SHORTEST
    }
    for folder in sorted(folders):
        # protobuf writes a text's length before it: of 65 to 90 letters it reads as one more
        before = b"" if len(folder.parts) > 2 else b"(?<![A-Za-z0-9])"
        if len(folder.parts) > 1:
            found[str(folder)] = before + re.escape(str(folder).encode()) + b"(?![A-Za-z0-9])"
    if len(user := _user()) >= SHORTEST:
        name = re.escape(user.encode())
        found[user] = rb"[/\\]" + name + b"(?![A-Za-z0-9])|(?<![A-Za-z0-9])" + name + b"@"
    return found


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
