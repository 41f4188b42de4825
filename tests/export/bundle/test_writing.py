"""The manifest of a model that writes: what its parts and answers must be, and that a part is checked as any engine is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.bundle.manifest import FILE, SCHEMA, WRITES, read_manifest
from export.bundle.verify import verify
from export.bundle.writing import ANSWERS
from export.errors import SecurityError, UnsupportedError
from tests.export.bundle.bundles import MODEL, bundle_files, npy, zip_bytes

ORT = MODEL["onnxruntime_mobile"]["model/model.ort"]
PARTS = {"model/decoder/model.ort": ORT, "model/encoder/model.ort": ORT}
GENERATION = {
    "end": 1,
    "padding": 0,
    "start": 2,
    "new_tokens": 6,
    "beams": 1,
    "length_penalty": 1.0,
    "temperature": 0.0,
    "top_k": 0,
    "seed": 0,
    "stops": True,
    "mode": "write",
}


def writer(value: dict[str, Any]) -> None:
    """Make the manifest of `bundle_files` one of a model with a decoder and an encoder."""
    plain = value["engine"]
    inputs = [{"name": "input_ids", "dtype": "int64", "shape": ["batch", "length"]}]
    parts = {
        name: plain | {"path": path, "files": [path]} for name, path in zip(("decoder", "encoder"), PARTS, strict=True)
    }
    value["schema"] = WRITES
    value["engine"] = plain | {
        "path": "model/decoder/model.ort",
        "files": [*PARTS],
        "inputs": inputs,
        "parts": parts,
        "generation": dict(GENERATION),
    }
    value["postprocessing"] = {"kind": "text", "output": "tokens", "timed_tokens": 4}
    outputs = {name: f"golden/0-out-{place}.npy" for place, name in enumerate(ANSWERS)}
    group = {"samples": 2, "inputs": {"input_ids": "golden/0-in-0.npy"}, "outputs": outputs}
    value["golden"] |= {"tolerance": {"logits": 0.1}, "groups": [group]}


def files(
    change: Callable[[dict[str, Any]], None] = lambda value: None, more: dict[str, bytes] | None = None
) -> dict[str, bytes]:
    def both(value: dict[str, Any]) -> None:
        writer(value)
        change(value)

    arrays = {f"golden/0-out-{place}.npy": npy(np.zeros((2, 1))) for place in range(len(ANSWERS))}
    return bundle_files(extra=PARTS | arrays | (more or {}), change=both)


def at(path: str, to: Any) -> Callable[[dict[str, Any]], None]:
    """Set the value at a dotted path; `...` removes it."""

    def change(value: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for part in parents:
            value = value[int(part)] if part.isdecimal() else value[part]
        if to is ...:
            del value[last]
        else:
            value[last] = to

    return change


def test_a_whole_one_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(zip_bytes(files()))
    manifest = verify(tmp_path / "x").manifest
    assert read_manifest(manifest.to_bytes()) == manifest and set(manifest.engine["parts"]) == {"decoder", "encoder"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (at("schema", SCHEMA), "engine: found {"),
        (at("engine", []), "engine: found [], an object is meant"),
        (at("engine.parts", ...), "engine.parts: found None, a decoder is meant, with an encoder or without"),
        (at("engine.parts.decoder", ...), "a decoder is meant"),
        (at("engine.parts.more", {}), "a decoder is meant"),
        (at("engine.parts.encoder", None), "engine: found None, an object with target, scheme"),
        (at("engine.parts.encoder.parts", {}), "engine: found {"),
        (
            at("engine.parts.encoder.target", "openvino"),
            "found one for 'openvino', the engine is for 'onnxruntime_mobile'",
        ),
        (at("engine.parts.encoder.path", "../x.ort"), "it names '../x.ort', which is not in its list"),
        (
            at("engine.parts.encoder.settings", {"also_for": {"arm64": "../x"}}),
            "it names 'model/encoder/../x', which is not",
        ),
        (at("engine.path", "model/encoder/model.ort"), "its path and files are not those of its parts"),
        (at("engine.files", ["model/decoder/model.ort"]), "its path and files are not those of its parts"),
        (at("engine.generation", None), "engine.generation: found None, an object with end, padding, start"),
        (at("engine.generation.more", 1), "engine.generation: found {"),
        (at("engine.generation.seed", ...), "engine.generation: found {"),
        (at("engine.generation.start", None), "engine.generation.start: found None, a number from -1"),
        (at("engine.generation.end", 1.0), "engine.generation.end: found 1.0, a number from -1"),
        (at("engine.generation.end", 1 << 40), "engine.generation.end: found 1099511627776"),
        (at("engine.generation.new_tokens", 0), "engine.generation.new_tokens: found 0, a number from 1 to 65536"),
        (at("engine.generation.new_tokens", 10**9), "engine.generation.new_tokens: found 1000000000, a number"),
        (at("engine.generation.beams", 10**6), "engine.generation.beams: found 1000000, a number from 1 to 256"),
        (at("engine.generation.beams", True), "engine.generation.beams: found True"),
        (at("engine.generation.length_penalty", 10**9), "engine.generation.length_penalty: found 1000000000"),
        (at("engine.generation.seed", -1), "engine.generation.seed: found -1"),
        (at("engine.generation.mode", "score"), "no such way of writing is known"),
        (at("engine.generation.stops", 1), "no such way of writing is known"),
        (
            lambda value: value["engine"]["generation"].update(beams=2, temperature=0.5),
            "no such way of writing is known",
        ),
        (at("engine.inputs", []), "golden: it holds no prompts"),
        (at("golden.groups", []), "golden: it holds no prompts"),
        (at("golden.groups.0.samples", 0), "prompts with tokens, likeliest, logits, log_sum of each answer are meant"),
        (at("golden.groups.0.inputs", {}), "prompts with tokens, likeliest, logits, log_sum of each answer are meant"),
        (at("golden.groups.0.inputs.more", "golden/0-in-0.npy"), "prompts with tokens, likeliest, logits, log_sum"),
        (at("golden.groups.0.outputs.logits", ...), "prompts with tokens, likeliest, logits, log_sum of each answer"),
        (at("golden.tolerance", {"tokens": 0}), "a tolerance of 'logits' is meant"),
        (at("postprocessing", None), "postprocessing: found {}, timed_tokens from 1 to 65536 is meant"),
        (at("postprocessing.timed_tokens", 0), "timed_tokens from 1 to 65536 is meant"),
        (at("postprocessing.timed_tokens", "4"), "timed_tokens from 1 to 65536 is meant"),
    ],
)
def test_what_is_none_is_refused_in_one_sentence(change: Callable[[dict[str, Any]], None], reason: str) -> None:
    with pytest.raises(SecurityError, match=re.escape(reason)) as found:
        read_manifest(files(change)[FILE])
    assert str(found.value).isprintable() and len(str(found.value)) < 500


def test_a_decoder_alone_needs_no_start_and_may_be_given_padding() -> None:
    def alone(value: dict[str, Any]) -> None:
        value["engine"]["parts"].pop("encoder")
        value["engine"]["files"] = ["model/decoder/model.ort"]
        value["engine"]["generation"]["start"] = None
        value["engine"]["inputs"].append({"name": "padding", "dtype": "int64", "shape": ["batch"]})

    assert read_manifest(files(alone)[FILE]).engine["generation"]["start"] is None


def test_a_part_in_disguise_is_refused(tmp_path: Path) -> None:
    """ONNX Runtime goes by the content: it would follow what an ONNX file says of external data."""
    (tmp_path / "x").write_bytes(zip_bytes(files(more={"model/encoder/model.ort": b"\x08\x08onnx"})))
    with pytest.raises(
        SecurityError, match=r"model/encoder/model\.ort is no model that onnxruntime_mobile loads, \.ort"
    ):
        verify(tmp_path / "x")


def test_a_part_beside_which_an_onnx_file_reaches_out_is_refused(tmp_path: Path) -> None:
    from tests.export.bundle.test_onnx_files import MODELS

    content = MODELS["initializer"]().SerializeToString()
    (tmp_path / "x").write_bytes(zip_bytes(files(more={"model/encoder/model.onnx": content})))
    with pytest.raises(SecurityError, match=r"model/encoder/model\.onnx keeps data in "):
        verify(tmp_path / "x")


def test_every_bit_of_the_manifest_counts(tmp_path: Path) -> None:
    taken = bytearray(zip_bytes(files()))
    place = taken.index(b'"new_tokens"') + len('"new_tokens": ')
    taken[place] ^= 1
    (tmp_path / "x").write_bytes(taken)
    with pytest.raises(SecurityError):
        verify(tmp_path / "x")


def test_a_runner_that_does_not_write_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.bundle.manifest.find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match=r"of a model that does not write; take the bundle's own runner\.pyz"):
        read_manifest(files()[FILE])
    assert read_manifest(json.dumps(json.loads(bundle_files()[FILE])).encode()).schema == SCHEMA
