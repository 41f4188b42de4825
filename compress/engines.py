"""ONNX model + scheme -> Q/DQ model -> compiled engine, kept in the run's folder, reused while all that went into it is the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import fingerprint, library_versions
from benchmarks.report import write_text_whole
from compress import __version__
from compress.generation.assembly import Assembly, PartCalibration, Shipped, digest_of_files, joined
from compress.quantize.model import quantize_model
from compress.run_directory import RunDirectory, fields_of, sha256_of
from export.errors import SecurityError
from export.model import OnnxModel
from targets import REGISTRY, Engine, Scheme, Target
from targets.registry import Registry

ENGINE = "engine.json"


def quantized(
    directory: RunDirectory,
    target: Target,
    model: Shipped,
    scheme: Scheme,
    calibration: Iterable[dict[str, np.ndarray]],
    calibration_key: str,
) -> Shipped:
    """`model` with the Q/DQ nodes of one of the target's schemes; the model itself where the scheme inserts none.

    Args:
        calibration_key: stands for the calibration samples in the part's key.

    Raises:
        UnsupportedError, QualityError: if the quantizer refuses the model or its data.
    """
    if scheme.quantizer == "none":
        return model
    key = {
        **surroundings(),
        "code": code_of("compress.quantize", "export"),
        "model": digest_of_files(model),
        "scheme": asdict(scheme),
        "calibration": calibration_key if scheme.needs_calibration else "",
    }

    def build(folder: Path) -> None:
        quantize_into(folder, model, scheme, calibration)

    folder, _ = directory.part(f"stages/quantize-{target.name}-{scheme.name}", key, build)
    if isinstance(model, OnnxModel):
        return OnnxModel.read(folder / "model.onnx")
    return Assembly({name: OnnxModel.read(folder / f"{name}.onnx") for name in model.parts}, model.generation)


def quantize_into(
    folder: Path, model: Shipped, scheme: Scheme, calibration: Iterable[dict[str, np.ndarray]]
) -> Shipped:
    """Write a model, or every part, with a scheme's Q/DQ nodes into an existing, empty folder."""
    if isinstance(model, OnnxModel):
        return quantize_model(model, calibration, scheme, folder / "model.onnx")
    parts = {
        name: quantize_model(part, PartCalibration(model, name, calibration), scheme, folder / f"{name}.onnx")
        for name, part in model.parts.items()
    }
    return Assembly(parts, model.generation)


def compiled(directory: RunDirectory, place: str, model: Shipped, target: Target, scheme: Scheme) -> Engine:
    """Compile a model that holds what `scheme` inserts, and keep the artifact at `place` in the run's folder.

    Raises:
        UnsupportedError: if the target refuses the model.
    """
    key = {
        **surroundings(),
        **of_other(REGISTRY, target.name),
        "code": code_of("targets", "export"),
        "model": digest_of_files(model),
        "target": target.name,
        "fields": fields_of(target),
        "scheme": asdict(scheme),
    }

    def build(folder: Path) -> None:
        engine = compile_into(folder, model, target, scheme)
        write_text_whole(folder / ENGINE, json.dumps(engine.to_json(folder), indent=1))

    folder, _ = directory.part(place, key, build)
    return read_engine(folder)


def compile_into(folder: Path, model: Shipped, target: Target, scheme: Scheme) -> Engine:
    """The engine of a model, or of every part in a folder of its own, in an existing, empty folder."""
    if isinstance(model, OnnxModel):
        return target.compile(model, scheme, folder)
    parts = {}
    for name, part in model.parts.items():
        (folder / name).mkdir()
        parts[name] = target.compile(part, scheme, folder / name)
    return joined(target.name, scheme.name, parts, model)


def read_engine(folder: Path) -> Engine:
    """The engine in a folder of a run.

    Raises:
        SecurityError: if it is for a target that no recipe can name: its code would be imported.
    """
    engine = Engine.from_json(json.loads((folder / ENGINE).read_text()), folder)
    if engine.target not in (known := REGISTRY.names()):
        raise SecurityError(f"{folder / ENGINE}: is for target {engine.target!a}; known: {', '.join(known)}")
    return engine


def artifact_folder(run: Path, files: Iterable[str]) -> Path:
    """The folder of the engine whose files a report names, relative to the run's folder: parts lie one folder deeper."""
    folder = run / Path(next(iter(files))).parent
    return folder if (folder / ENGINE).is_file() else folder.parent


def shipped_files(engine: Engine, run_folder: Path) -> Mapping[str, str]:
    """What ships of an engine: path relative to the run's folder -> sha256."""
    return {file.relative_to(run_folder).as_posix(): sha256_of(file) for file in engine.files}


def surroundings() -> dict[str, Any]:
    """What every part depends on besides its own inputs."""
    return {
        "toolkit": __version__,
        "versions": library_versions(),
        "instruction_sets": fingerprint()["instruction_sets"],
    }


@cache
def code_of(*packages: str) -> str:
    """sha256 over packages' sources: what they make is made again when their code changes, not only with the next version.

    For parts that take seconds to make. A training is kept.
    """
    digest = hashlib.sha256()
    for package in packages:
        found = find_spec(package)
        assert found is not None and found.submodule_search_locations
        folder = Path(found.submodule_search_locations[0])
        for file in sorted(folder.rglob("*.py")):
            digest.update(f"{package} {file.relative_to(folder).as_posix()} {sha256_of(file)}\n".encode())
    return digest.hexdigest()


def of_other(registry: Registry, name: str) -> dict[str, str]:
    """What a part also depends on where another distribution's step or target makes it: that one's version."""
    found = registry.registered(name)
    return {} if found is None else {"distribution": found.origin}
