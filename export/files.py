"""Files are written whole: under a temporary name, then renamed, so that an interruption leaves nothing half done."""

from __future__ import annotations

import errno
from pathlib import Path

from export.errors import EnvironmentFailure


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` to `path`; on failure `path` is as it was before and no temporary file stays.

    Raises:
        EnvironmentFailure: if the disk is full.
        OSError: for any other failure of the file system.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise EnvironmentFailure(
                f"{path}: the disk is full, {len(content)} bytes could not be written; free some space and run again"
            ) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
