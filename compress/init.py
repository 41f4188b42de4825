"""`compress init`: a commented recipe and workload for a model of the user's own."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from benchmarks.report import write_text_whole
from export.errors import InputError


def write_starter(folder: Path, name: str) -> list[Path]:
    """Write recipe.yaml and workload.py into `folder`.

    Raises:
        InputError: if one of them is there already; nothing is written then.
    """
    files = [folder / "recipe.yaml", folder / "workload.py"]
    for file in files:
        if file.exists():
            raise InputError(f"{file}: is there already; give another folder, or move it away")
    folder.mkdir(parents=True, exist_ok=True)
    templates = resources.files("compress") / "templates"
    for file in files:
        text = (templates / f"{file.name}.txt").read_text(encoding="utf-8")
        write_text_whole(file, text.replace("my-model", name))
    return files
