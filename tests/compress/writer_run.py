"""The folder of a run of a hand-made model that writes: artifact, report and prompts, as `compress pack` finds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from compress.engines import compiled
from compress.pack.kept import write_kept
from compress.run_directory import RunDirectory, sha256_of
from targets import FP32
from targets.onnxruntime_mobile import Family, OnnxRuntimeMobile
from tests.benchmarks.render.made_up import made_up_report
from tests.targets.writers import assembly

TARGET = "onnxruntime_mobile"
PROMPTS = ([3, 5, 10], [3, 5, 11], [11, 7, 6], [3, 7])


def writer_run(
    folder: Path,
    encodes: bool = False,
    preprocessing: dict[str, Any] | None = None,
    also_for: tuple[Family, ...] = (),
    **generation: object,
) -> Path:
    """Write it into `folder` and give its path."""
    run = folder / "run"
    run.mkdir(parents=True)
    model = assembly(folder, encodes, **generation)
    place = f"artifacts/{TARGET}/fp32"
    with RunDirectory(run) as directory:
        engine = compiled(directory, place, model, OnnxRuntimeMobile(also_for=also_for), FP32)
    report = made_up_report()
    files = {file.relative_to(run).as_posix(): sha256_of(file) for file in engine.files}
    rows = [
        replace(row, scheme="fp32", files=files) if (row.target, row.role) == (TARGET, "chosen") else row
        for row in report.rows
    ]
    replace(report, rows=tuple(rows)).write(run / "report.json")
    told = {
        "preprocessing": preprocessing,
        "postprocessing": {"kind": "text", "output": "tokens", "timed_tokens": 4},
        "class_names": [],
        "licence": None,
    }
    write_kept(run, [prompt(ids, encodes) for ids in PROMPTS], told)
    return run


def prompt(ids: Sequence[int], encodes: bool) -> dict[str, np.ndarray]:
    """A prompt as a session takes it."""
    tokens = np.array([ids])
    return {"input_ids": tokens, **({"attention_mask": np.ones_like(tokens)} if encodes else {})}
