"""The expected outputs of the golden inputs, from the engine that ships wherever it runs here."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.bundle.manifest import Golden, GoldenGroup
from export.errors import UnsupportedError
from targets import Engine, Target
from targets.base import Arrays

FOLDER = "golden"

ALLOWED = {"fp32": 1e-3, "fp16": 0.02, "bf16": 0.05, "int8": 0.05, "int4": 0.05}
"""Share of an output's range over the golden inputs, by the scheme's precision. Another processor sums in another order,
and a value between two steps of INT8 goes to the other one."""


HERE = "this engine where it was packed"
FROM_ONNX = "ONNX Runtime, from the ONNX model that the engine is built from"


@dataclass(frozen=True)
class Answered:
    """Outputs by name for each golden sample, and who gave them, in words.

    Args:
        spread: largest less smallest value of what has a tolerance, where not all of it is among the outputs.
    """

    outputs: tuple[Arrays, ...]
    by: str
    spread: Mapping[str, float] | None = None


def answered(target: Target, engine: Engine, source: Path, samples: Sequence[Mapping[str, np.ndarray]]) -> Answered:
    """Run the samples, one by one.

    Args:
        source: the ONNX model that the engine was compiled from; ONNX Runtime answers where the engine cannot run.

    Raises:
        UnsupportedError: if neither can, or the engine takes no single samples.
    """
    if fixed := {
        spec.shape[0] for spec in engine.inputs if spec.shape and spec.shape[0] != 1 and isinstance(spec.shape[0], int)
    }:
        raise UnsupportedError(
            f"{engine.target}: the engine has its batch fixed at {min(fixed)}, and golden inputs are single samples; "
            "compile it with a batch of 1, or a dynamic one"
        )
    if target.cannot_run() is None:
        with target.load(engine, threads=1) as session:
            return Answered(tuple(_copied(session.run(inputs)) for inputs in samples), HERE)
    if not source.is_file():
        raise UnsupportedError(
            f"{engine.target}: the engine cannot run here, and no {source.name} lies beside it to ask"
        )
    import onnxruntime

    from targets.onnxruntime_mobile.session import level

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = level("extended")  # all may crash in FP16: see open_part of compress.generation
    asked = onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in asked.get_outputs()]
    found = [dict(zip(names, asked.run(names, dict(inputs)), strict=True)) for inputs in samples]
    return Answered(tuple(map(_copied, found)), FROM_ONNX)


def written(
    samples: Sequence[Mapping[str, np.ndarray]], answers: Answered, precision: str, folder: Path
) -> tuple[Golden, dict[str, Path]]:
    """Write the arrays as .npy files, samples of one shape stacked; the manifest's part, and the files by their names."""
    groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for index, inputs in enumerate(samples):
        shapes = (
            *(array.shape for array in inputs.values()),
            *(array.shape for array in answers.outputs[index].values()),
        )
        groups.setdefault(shapes, []).append(index)
    files: dict[str, Path] = {}

    def stack(kind: str, group: int, chosen: Sequence[Mapping[str, np.ndarray]]) -> dict[str, str]:
        names = {}
        for position, tensor in enumerate(chosen[0]):
            names[tensor] = f"{FOLDER}/{group}-{kind}-{position}.npy"
            files[names[tensor]] = folder / f"{group}-{kind}-{position}.npy"
            held = io.BytesIO()
            np.save(held, np.concatenate([sample[tensor] for sample in chosen]), allow_pickle=False)
            files[names[tensor]].write_bytes(held.getvalue())
        return names

    made = tuple(
        GoldenGroup(
            samples=len(rows),
            inputs=stack("in", number, [samples[row] for row in rows]),
            outputs=stack("out", number, [answers.outputs[row] for row in rows]),
        )
        for number, rows in enumerate(groups.values())
    )
    spread = answers.spread or {
        name: _range([outputs[name] for outputs in answers.outputs]) for name in answers.outputs[0]
    }
    tolerance = {name: ALLOWED[precision] * found for name, found in spread.items()}
    return Golden(answers.by, tolerance, made), files


def _copied(outputs: Arrays) -> Arrays:
    return {name: np.array(output) for name, output in outputs.items()}


def _range(arrays: Sequence[np.ndarray]) -> float:
    """Largest less smallest finite value; of integers nothing may differ."""
    if not np.issubdtype(arrays[0].dtype, np.floating):
        return 0.0
    values = np.concatenate([array[np.isfinite(array)] for array in arrays])
    return float(np.ptp(values)) or float(np.abs(values).max(initial=0.0))
