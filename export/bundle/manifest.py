"""manifest.json: what is in a bundle, what made it, what was measured of it, and what it needs to run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import PurePosixPath
from typing import Any

from export.bundle.json_values import Wrong, is_kind, short, strings, typed
from export.bundle.names import check_names
from export.errors import SecurityError, UnsupportedError

FILE = "manifest.json"
SUMS = "SHA256SUMS"
SIGNATURE = "signature.json"
SCHEMA = "edge-compress bundle 1"
WRITES = "edge-compress writer bundle 1"
"""Of a model that writes: its engine has parts, its golden answers are texts (`export.bundle.writing`)."""
LARGEST_BYTES = 1 << 22


@dataclass(frozen=True)
class FileEntry:
    """One file: sha256 as 64 hexadecimal digits, and size."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Runtime:
    """What the device must have.

    Args:
        package: of the registry, as pip installs it.
        minimum: the oldest version that has run such an artifact in this toolkit's tests.
        built_with: the version that compiled it.
        architecture: "amd64", "arm64", or "any".
        compute_capabilities: of NVIDIA GPUs; empty for others.
    """

    package: str
    minimum: str
    built_with: str
    architecture: str = "any"
    compute_capabilities: tuple[str, ...] = ()


@dataclass(frozen=True)
class GoldenGroup:
    """Samples whose arrays have one shape, stacked: names of .npy files by tensor, the sample as first axis."""

    samples: int
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class Golden:
    """Inputs with what the engine answered to them.

    Args:
        answered_by: in words: which engine, where.
        tolerance: for each output the largest difference allowed, in the output's own unit.
        groups: all samples, 16 together.
    """

    answered_by: str
    tolerance: Mapping[str, float]
    groups: tuple[GoldenGroup, ...]


@dataclass(frozen=True)
class Manifest:
    """All fields stand in the file; what is not known is null.

    Args:
        engine: as `targets.Engine.to_json` writes it, file names relative to the bundle.
        metric: name, value, split, samples, and difference from the original with its interval.
        latency: as the report holds it, one entry a batch size, with the machine that it was measured on in `machine`.
        preprocessing: what turns an image or a text into the inputs (`benchmarks.preprocessing`).
        postprocessing: what the outputs mean: {"kind": "classes", "output": "logits", "activation": "softmax"}.
        made_from: recipe, seed, hashes of weights and data, versions of the libraries.
        licence: of the model, in words of the workload.
        files: every file of the bundle but the manifest, the list of checksums and the signature.
    """

    name: str
    created: str
    toolkit_version: str
    engine: Mapping[str, Any]
    runtime: Runtime
    metric: Mapping[str, Any]
    latency: tuple[Mapping[str, Any], ...]
    machine: Mapping[str, Any]
    preprocessing: Mapping[str, Any] | None
    postprocessing: Mapping[str, Any] | None
    class_names: tuple[str, ...]
    golden: Golden
    made_from: Mapping[str, Any]
    licence: str | None
    files: Mapping[str, FileEntry]
    schema: str = SCHEMA

    def to_bytes(self) -> bytes:
        """The file's content: UTF-8, keys in order, a field a line."""
        fields = {name: _written(value) for name, value in sorted(asdict(self).items())}
        return ("{" + ",\n".join(f"{_written(name)}: {value}" for name, value in fields.items()) + "}\n").encode()


def read_manifest(content: bytes) -> Manifest:
    """The manifest in a bundle, its fields checked for their types and that all they name is in `files`.

    Raises:
        SecurityError: if it is not one of these schemas.
        UnsupportedError: if it is of a model that writes, and this is the runner of one that does not.
    """
    value = _plain(content)
    if value.get("schema") not in (SCHEMA, WRITES):
        raise SecurityError(
            f"{FILE}: schema {short(value.get('schema'))}, this toolkit reads '{SCHEMA}'; pack it again"
        )
    engine, check_answers = _readers(value["schema"])
    try:
        manifest = Manifest(
            **typed(
                value,
                Manifest,
                {"engine": engine, "runtime": _runtime, "golden": _golden, "files": _files, "class_names": strings},
            )
        )
        check_answers(manifest)
    except (Wrong, RecursionError) as error:
        raise SecurityError(f"{FILE}: {error}; the bundle was not made by `compress pack`") from error
    for name in _named(manifest):
        if not isinstance(name, str) or name not in manifest.files:
            raise SecurityError(f"{FILE}: it names {short(name)}, which is not in its list of files")
    return manifest


def _readers(schema: str) -> tuple[Callable[[Any], Mapping[str, Any]], Callable[[Manifest], None]]:
    """What reads a schema's engine, and what checks its golden answers."""
    if schema == SCHEMA:
        return plain_engine, _check_golden
    if find_spec("export.bundle.writing") is None:
        raise UnsupportedError("this runner is of a model that does not write; take the bundle's own runner.pyz")
    from export.bundle import writing

    return writing.engine, writing.check_answers


def _written(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def engines(engine: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a runtime loads one by one: the parts of a model that writes, or the engine itself."""
    return list(engine.get("parts", {"": engine}).values())


def _plain(content: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a key stands twice")
        return dict(pairs)

    def finite(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            raise ValueError(f"{text} is no finite number")
        return value

    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=unique, parse_constant=finite, parse_float=finite)
    except (ValueError, RecursionError) as error:
        raise SecurityError(f"{FILE}: cannot be read as JSON ({error}); fetch the bundle again") from error
    if not isinstance(value, dict):
        raise SecurityError(f"{FILE}: holds no object; fetch the bundle again")
    return value


_ENGINE: dict[str, Any] = {
    "target": str,
    "scheme": str,
    "path": str,
    "files": list,
    "inputs": list,
    "outputs": list,
    "build_s": (int, float),
    "operators": dict,
    "settings": dict,
}


def plain_engine(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict) or value.keys() != _ENGINE.keys():
        raise Wrong(f"engine: found {short(value)}, an object with {', '.join(_ENGINE)} is meant")
    for name, kind in _ENGINE.items():
        if not is_kind(value[name], kind):
            raise Wrong(f"engine.{name}: found {short(value[name])}")
    strings(value["files"])
    for spec in (*value["inputs"], *value["outputs"]):
        if not _is_tensor(spec):
            raise Wrong(f"engine: a tensor has name, dtype and shape, found {short(spec)}")
    return value


def _is_tensor(spec: Any) -> bool:
    if not isinstance(spec, dict) or spec.keys() != {"name", "dtype", "shape"} or not isinstance(spec["shape"], list):
        return False
    return (
        is_kind(spec["name"], str)
        and is_kind(spec["dtype"], str)
        and all(is_kind(axis, (int, str)) for axis in spec["shape"])
    )


def _runtime(value: Any) -> Runtime:
    return Runtime(**typed(value, Runtime, {"compute_capabilities": strings}))


def _golden(value: Any) -> Golden:
    return Golden(**typed(value, Golden, {"tolerance": _tolerance, "groups": _groups}))


def _groups(value: Any) -> tuple[GoldenGroup, ...]:
    if not isinstance(value, list):
        raise Wrong(f"groups: found {short(value)}, a list is meant")
    groups = tuple(GoldenGroup(**typed(each, GoldenGroup)) for each in value)
    for group in groups:
        strings([*group.inputs.values(), *group.outputs.values()])
    return groups


def _tolerance(value: Any) -> dict[str, float]:
    if not isinstance(value, dict) or not all(is_kind(each, (int, float)) and each >= 0 for each in value.values()):
        raise Wrong(f"tolerance: found {short(value)}, a number from 0 for each output is meant")
    return value


def _files(value: Any) -> dict[str, FileEntry]:
    if not isinstance(value, dict) or not value:
        raise Wrong(f"files: found {short(value)}, an object is meant")
    files = {name: FileEntry(**typed(entry, FileEntry)) for name, entry in value.items()}
    for name, entry in files.items():
        if len(entry.sha256) != 64 or set(entry.sha256) - set("0123456789abcdef") or entry.size_bytes < 0:
            raise Wrong(f"files: {short(name)}: found {short(entry)}, a sha256 and a size are meant")
    if set(files) & {FILE, SUMS, SIGNATURE}:
        raise Wrong(f"files: {FILE}, {SUMS} and {SIGNATURE} cannot be in their own list")
    check_names(files)
    return files


def _check_golden(manifest: Manifest) -> None:
    """A test that leaves out samples, inputs or outputs would be passed by anything."""
    engine = manifest.engine
    inputs, outputs = ({spec["name"] for spec in engine[kind]} for kind in ("inputs", "outputs"))
    if not manifest.golden.groups:
        raise Wrong("golden: it holds no inputs")
    for group in manifest.golden.groups:
        if group.samples < 1 or set(group.inputs) != inputs or set(group.outputs) != outputs:
            raise Wrong(f"golden: found {short(group)}, samples of every input and output of the engine are meant")
    if set(manifest.golden.tolerance) != outputs:
        raise Wrong(f"golden: found {short(manifest.golden.tolerance)}, a tolerance of every output is meant")


def _named(manifest: Manifest) -> list[str]:
    """Every file that a field other than `files` names."""
    golden = [name for group in manifest.golden.groups for name in (*group.inputs.values(), *group.outputs.values())]
    tokenizer = (manifest.preprocessing or {}).get("tokenizer")
    found = [*golden, *([] if tokenizer is None else [tokenizer])]
    for engine in (manifest.engine, *engines(manifest.engine)):
        path, others = engine["path"], engine["settings"].get("also_for", {})
        beside = (
            [f"{PurePosixPath(path).parent}/{name}" for name in others.values()]
            if isinstance(others, dict)
            else [others]
        )
        found += [path, *engine["files"], *beside]
    return found
