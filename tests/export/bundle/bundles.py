"""Small bundles, whole ones and ones with a single thing wrong, made without a runtime."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from export.bundle.manifest import FILE, SUMS, FileEntry, Golden, GoldenGroup, Manifest, Runtime
from export.bundle.verify import sums

MODEL = {
    "openvino": {"model/model.xml": b'<?xml version="1.0"?><net/>', "model/model.bin": bytes(range(64))},
    "onnxruntime_mobile": {"model/model.ort": b"\x14\0\0\0ORTM" + bytes(60)},
    "tensorrt": {"model/model.engine": b"vtrt" + bytes(60), "model/model.onnx": b""},
}
"""Target -> files that begin as those of the runtime do; the first is what it loads."""

Change = Callable[[dict[str, Any]], None]
"""Changes the manifest's plain value in place."""


def npy(array: np.ndarray) -> bytes:
    held = io.BytesIO()
    np.save(held, array)
    return held.getvalue()


def bundle_files(
    target: str = "onnxruntime_mobile",
    extra: Mapping[str, bytes] | None = None,
    change: Change | None = None,
    samples: int = 2,
) -> dict[str, bytes]:
    """All files of a bundle whose checksums hold, whatever `extra` and `change` did to it before they were taken."""
    model = MODEL[target]
    golden = Golden(
        "a test", {"y": 0.5}, (GoldenGroup(samples, {"x": "golden/0-in-0.npy"}, {"y": "golden/0-out-0.npy"}),)
    )
    files = {
        **model,
        "golden/0-in-0.npy": npy(np.arange(samples * 3, dtype=np.float32).reshape(samples, 3)),
        "golden/0-out-0.npy": npy(np.ones((samples, 1), np.float32)),
        "runner.pyz": b"PK",
        **(extra or {}),
    }
    first = next(iter(model))
    settings = {"sha256": sha256(model[first])} if target == "tensorrt" else {}
    manifest = Manifest(
        name="small",
        created="2026-01-01T00:00:00+00:00",
        toolkit_version="0.1.0",
        engine={
            "target": target,
            "scheme": "int8",
            "path": first,
            "files": [name for name in model if not name.endswith(".onnx")],
            "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 3]}],
            "outputs": [{"name": "y", "dtype": "float32", "shape": ["batch", 1]}],
            "build_s": 0.1,
            "operators": {},
            "settings": settings,
        },
        runtime=Runtime("onnxruntime", "1.19", "1.22"),
        metric={"name": "accuracy", "value": 0.9},
        latency=(),
        machine={},
        preprocessing=None,
        postprocessing=None,
        class_names=("no", "yes"),
        golden=golden,
        made_from={},
        licence=None,
        files={name: FileEntry(sha256(content), len(content)) for name, content in files.items()},
    )
    value = json.loads(manifest.to_bytes())
    if change is not None:
        change(value)
    return with_manifest(files, json.dumps(value).encode())


def with_manifest(files: Mapping[str, bytes], manifest: bytes) -> dict[str, bytes]:
    """The files with a manifest and the list of checksums that belongs to both."""
    held = {name: content for name, content in files.items() if name not in (FILE, SUMS)} | {FILE: manifest}
    return held | {SUMS: sums({name: sha256(content) for name, content in held.items()})}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_folder(files: Mapping[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def zip_bytes(
    files: Mapping[str, bytes] | list[tuple[str, bytes]],
    *,
    local: Mapping[str, Any] | None = None,
    central: Mapping[str, Any] | None = None,
    end: Mapping[str, Any] | None = None,
    ordered: bool = True,
) -> bytes:
    """A zip archive field by field, from APPNOTE.TXT alone, with any of them planted.

    Args:
        local, central: fields of the first file's headers: version, flags, method, time, date, crc, packed, size, name,
            extra, comment, disk, internal, external, offset; `content` is what stands behind the local header.
        end: disk, entries, total, length, start, comment; `before` stands at the very front, `behind` at the end.
    """
    planted = {"before": b"", "behind": b"", "between": b"", **(end or {})}
    pairs = list(files.items()) if isinstance(files, Mapping) else files
    body, directory = planted["before"], b""
    for index, (name, content) in enumerate(sorted(pairs) if ordered else pairs):
        own = {
            "version": 20,
            "flags": 0,
            "method": 0,
            "time": 0,
            "date": 0x21,
            "crc": zlib.crc32(content),
            "packed": len(content),
            "size": len(content),
            "name": name.encode(),
            "extra": b"",
            "comment": b"",
            "disk": 0,
            "internal": 0,
            "external": 0,
            "offset": len(body),
            "content": content,
        }
        here = own | (local or {}) if index == 0 else own
        there = own | (central or {}) if index == 0 else own
        numbers = [here[key] for key in ("version", "flags", "method", "time", "date", "crc", "packed", "size")]
        body += struct.pack("<4s5H3I2H", b"PK\3\4", *numbers, len(here["name"]), len(here["extra"]))
        body += here["name"] + here["extra"] + here["content"] + planted["between"]
        numbers = [there[key] for key in ("version", "flags", "method", "time", "date", "crc", "packed", "size")]
        lengths = [len(there[key]) for key in ("name", "extra", "comment")]
        places = [there[key] for key in ("disk", "internal", "external", "offset")]
        directory += struct.pack("<4s6H3I3H2H2I", b"PK\1\2", 20, *numbers, *lengths, *places)
        directory += there["name"] + there["extra"] + there["comment"]
    tail = {
        "disk": 0,
        "entries": len(pairs),
        "total": len(pairs),
        "length": len(directory),
        "start": len(body),
    } | planted
    comment = tail.get("comment", b"")
    numbers = [tail[key] for key in ("disk", "disk", "entries", "total", "length", "start")]
    return body + directory + struct.pack("<4s4H2IH", b"PK\5\6", *numbers, len(comment)) + comment + planted["behind"]
