from __future__ import annotations

import json
import re
from typing import Any

import pytest

from export.bundle.manifest import FILE, SCHEMA, read_manifest
from export.errors import SecurityError
from tests.export.bundle.bundles import bundle_files

VALUE: dict[str, Any] = json.loads(bundle_files()[FILE])
NAME = "model/model.ort"


def changed(path: str, value: Any) -> bytes:
    """The manifest with the value at a dotted path replaced; `...` removes it."""
    made = json.loads(json.dumps(VALUE))
    *parents, last = path.split("/") if "/" in path else path.split(".")
    place = made
    for part in parents:
        place = place[int(part)] if part.isdecimal() else place[part]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return json.dumps(made).encode()


def test_a_manifest_is_read_as_it_was_written() -> None:
    manifest = read_manifest(json.dumps(VALUE).encode())
    assert read_manifest(manifest.to_bytes()) == manifest
    assert manifest.golden.groups[0].samples == 2 and manifest.class_names == ("no", "yes")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot be read as JSON"),
        (b"[]", "holds no object"),
        (b"null", "holds no object"),
        (b"{", "cannot be read as JSON"),
        (b'{"a": 1, "a": 2}', "a key stands twice"),
        (b'{"a": {"b": 1, "b": 2}}', "a key stands twice"),
        (b'{"a": NaN}', "NaN is no finite number"),
        (b'{"a": -Infinity}', "-Infinity is no finite number"),
        (b'{"a": 1e999}', "1e999 is no finite number"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b'{"a":' * 100_000, "cannot be read as JSON"),
        (b'{"a": ' + b"1" * 5000 + b"}", "cannot be read as JSON"),
        (b'{"a": "\xff"}', "cannot be read as JSON"),
        (b"\xef\xbb\xbf{}", "cannot be read as JSON"),
        (json.dumps(VALUE).encode("utf-16"), "cannot be read as JSON"),
        (b"{}", f"schema None, this toolkit reads '{SCHEMA}'"),
        (changed("schema", "edge-compress bundle 2"), "schema 'edge-compress bundle 2', this toolkit reads"),
        (changed("schema", [[]]), "schema [[]], this toolkit reads"),
        (changed("name", ...), "Manifest must have name, created"),
        (changed("more", 1), "Manifest must have name, created"),
        (changed("name", 1), "name: found 1, str is meant"),
        (changed("metric", []), "metric: found []"),
        (changed("latency", {}), "latency: found {}"),
        (changed("class_names", "01"), "found '01', a list of texts is meant"),
        (changed("class_names", [1]), "found [1], a list of texts is meant"),
        (changed("preprocessing", 3), "preprocessing: found 3"),
        (changed("engine", None), "engine: found None"),
        (changed("engine.facts", {}), "engine: found {"),
        (changed("engine.path", ["a"]), "engine.path: found ['a']"),
        (changed("engine.build_s", True), "engine.build_s: found True"),
        (changed("engine.inputs", [{"name": "x"}]), "a tensor has name, dtype and shape"),
        (changed("engine.inputs.0.name", []), "a tensor has name, dtype and shape"),
        (changed("engine.inputs.0.shape", [None]), "a tensor has name, dtype and shape"),
        (changed("engine.outputs.0.dtype", {}), "a tensor has name, dtype and shape"),
        (changed("engine.path", "model/other.ort"), "it names 'model/other.ort', which is not in its list of files"),
        (changed("engine.path", "../x.ort"), "it names '../x.ort', which is not in its list"),
        (changed("engine.files", ["/etc/passwd"]), "it names '/etc/passwd', which is not in its list"),
        (changed("engine.settings", {"also_for": {"amd64": "../x"}}), "it names 'model/../x', which is not in its"),
        (changed("engine.settings", {"also_for": {"amd64": {}}}), "it names 'model/{}', which is not in its list"),
        (changed("engine.settings", {"also_for": "amd64"}), "it names 'amd64', which is not in its list"),
        (changed("preprocessing", {"tokenizer": "/x.json"}), "it names '/x.json', which is not in its list"),
        (changed("preprocessing", {"tokenizer": [NAME]}), f"it names ['{NAME}'], which is not in its list"),
        (changed("runtime", []), "Runtime must have package, minimum"),
        (changed("runtime.compute_capabilities", "8.6"), "found '8.6', a list of texts is meant"),
        (changed("golden", {}), "Golden must have answered_by, tolerance, groups"),
        (changed("golden.groups", {}), "groups: found {}, a list is meant"),
        (changed("golden.groups", []), "golden: it holds no inputs"),
        (changed("golden.groups.0.samples", 0), "samples of every input and output of the engine are meant"),
        (changed("golden.groups.0.samples", True), "samples: found True, int is meant"),
        (changed("golden.groups.0.outputs", {}), "samples of every input and output of the engine are meant"),
        (changed("golden.groups.0.inputs", {"z": NAME}), "samples of every input and output of the engine are meant"),
        (changed("golden.groups.0.inputs", {"x": 1}), "found [1, 'golden/0-out-0.npy'], a list of texts is meant"),
        (changed("golden.groups.0.inputs", {"x": "../x.npy"}), "it names '../x.npy', which is not in its list"),
        (changed("golden.tolerance", {}), "a tolerance of every output is meant"),
        (changed("golden.tolerance", {"y": -1}), "a number from 0 for each output is meant"),
        (changed("golden.tolerance", {"y": True}), "a number from 0 for each output is meant"),
        (changed("files", {}), "files: found {}, an object is meant"),
        (changed("files", []), "files: found [], an object is meant"),
        (changed("files", {NAME: {}}), "FileEntry must have sha256, size_bytes"),
        (changed("files", {NAME: {"sha256": "a" * 64, "size_bytes": -1}}), "a sha256 and a size are meant"),
        (changed("files", {NAME: {"sha256": "A" * 64, "size_bytes": 1}}), "a sha256 and a size are meant"),
        (changed("files", {NAME: {"sha256": "a" * 63, "size_bytes": 1}}), "a sha256 and a size are meant"),
        (changed("files", {FILE: {"sha256": "a" * 64, "size_bytes": 1}}), "cannot be in their own list"),
        (changed("files", {"../x": {"sha256": "a" * 64, "size_bytes": 1}}), "the file name '../x' is refused"),
        (changed("files", {"\x1b[2J": {"sha256": "a" * 64, "size_bytes": 1}}), "the file name '\\x1b[2J' is refused"),
    ],
)
def test_what_is_no_manifest_is_refused_in_one_sentence(content: bytes, reason: str) -> None:
    with pytest.raises(SecurityError, match=re.escape(reason)) as found:
        read_manifest(content)
    assert str(found.value).isprintable() and len(str(found.value)) < 500


def test_nesting_that_can_be_read_but_hardly_shown_is_refused() -> None:
    """The reader and `repr` give up at different depths; between the two lies no traceback."""
    for depth in range(900, 1000, 7):
        with pytest.raises(SecurityError):
            read_manifest(b'{"schema": ' + b"[" * depth + b"]" * depth + b"}")
