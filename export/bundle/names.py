"""Which names a file in a bundle may have: such that no system takes one for a place outside the bundle's folder."""

from __future__ import annotations

import re
from collections.abc import Iterable

from export.errors import SecurityError

LONGEST = 160
"""Characters of a whole name; Windows allows 260 with the folder before it."""
DEEPEST = 6

_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._+-]*[A-Za-z0-9_+-])?", re.ASCII)
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.ASCII | re.IGNORECASE)
"""What Windows opens as a device whatever the folder.

Source: learn.microsoft.com/windows/win32/fileio/naming-a-file, "Naming conventions".
"""


def check_names(names: Iterable[str]) -> None:
    """Refuse names that leave the folder, that a system reads otherwise than another, or of which two are one file.

    A part is made of ASCII letters, digits and `. _ + -`, begins with none of `. + -` and does not end with a dot: that
    leaves out `..`, hidden files, absolute paths, drive letters, streams, backslashes and look-alike letters.

    Raises:
        SecurityError: naming the first that is refused.
    """
    seen: dict[str, str] = {}
    for name in names:
        if reason := _refusal(name):
            raise SecurityError(f"the file name {shown(name)} is refused: {reason}")
        if name.lower() in seen:
            raise SecurityError(
                f"the file names {shown(seen[name.lower()])} and {shown(name)} are one file on systems that "
                "do not tell small from capital letters; nothing was read"
            )
        seen[name.lower()] = name
    for folded, name in seen.items():
        for place in range(len(folded)):
            if folded[place] == "/" and folded[:place] in seen:
                raise SecurityError(
                    f"{shown(seen[folded[:place]])} is a file and, by {shown(name)}, a folder; nothing was read"
                )


def shown(name: str) -> str:
    """Quoted, without control characters, at most 60 characters."""
    text = ascii(name)
    return text if len(text) <= 60 else text[:57] + "..." + text[0]


def _refusal(name: str) -> str | None:
    if len(name) > LONGEST:
        return f"it has {len(name)} characters, at most {LONGEST} are allowed"
    parts = name.split("/")
    if len(parts) > DEEPEST:
        return f"it lies {len(parts)} folders deep, at most {DEEPEST} are allowed"
    for part in parts:
        if not _PART.fullmatch(part):
            return (
                f"its part {shown(part)} is not made of letters, digits and . _ + - alone, or begins or ends with a dot"
            )
        if _DEVICES.fullmatch(part):
            return f"Windows takes {shown(part)} for a device"
    return None
