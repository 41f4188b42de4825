"""samples.npz in a run's folder: the metric's per-sample statistics, so that two runs can be compared sample by sample."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from export.errors import InputError
from export.files import write_whole

FILE = "samples.npz"


def key_of(target: str) -> str:
    """Name of a target's rows on the evaluation set: of what ships there, or of the original for "torch"."""
    return f"{target}/evaluation"


def write_samples(path: Path, rows: Mapping[str, np.ndarray]) -> None:
    """Write rows of shape (samples, k) by name, whole or not at all; nothing in the file is pickled."""
    whole = io.BytesIO()
    np.savez_compressed(whole, **dict(rows))  # type: ignore[arg-type]
    write_whole(path, whole.getvalue())


def read_samples(run_folder: Path) -> dict[str, np.ndarray]:
    """The rows of a run by name; empty where it keeps none.

    Args:
        run_folder: or the run's report.json.

    Raises:
        InputError: if the file is damaged, or holds something else than rows of numbers.
    """
    path = (run_folder if run_folder.is_dir() else run_folder.parent) / FILE
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            rows = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not the samples of a run ({error}); delete it, or run the recipe again") from error
    for name, found in rows.items():
        if found.ndim != 2 or found.dtype.kind != "f":
            raise InputError(
                f"{path}: '{name}' must be rows of floating-point numbers, found shape {found.shape} of {found.dtype}; "
                "delete the file, or run the recipe again"
            )
    return rows
