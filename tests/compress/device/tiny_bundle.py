"""A bundle of a seeded network for ONNX Runtime, made in a second without a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compress.pack import golden
from compress.run_directory import sha256_of
from export.bundle.archive import write_archive
from export.bundle.manifest import FILE, SUMS, FileEntry, Manifest, Runtime
from export.bundle.verify import sums
from targets import FP32
from targets.onnxruntime_mobile import Family, OnnxRuntimeMobile
from tests.targets import networks


def tiny_bundle(out: Path, scratch: Path, *, family: Family = "amd64", wrong: bool = False) -> Path:
    """Write a bundle to `out`.

    Args:
        family: of the processor that it is for.
        wrong: its golden outputs are not those of the model.
    """
    target = OnnxRuntimeMobile(also_for=(family,))
    engine = target.compile(networks.convolutional(scratch / "source.onnx"), FP32, scratch)
    random = np.random.default_rng(0)
    samples = [{"image": random.normal(size=(1, 3, 12, 12)).astype(np.float32)} for _ in range(4)]
    answers = golden.answered(target, engine, scratch / "model.onnx", samples)
    if wrong:
        answers = golden.Answered(tuple({"logits": each["logits"] + 9} for each in answers.outputs), answers.by)
    told, files = golden.written(samples, answers, "fp32", scratch)
    files["model/model.ort"] = engine.path.with_name(engine.settings["also_for"].get(family, engine.path.name))
    value = engine.to_json(scratch) | {"path": "model/model.ort", "files": ["model/model.ort"]}
    value.pop("facts", None)
    value["settings"] = {name: found for name, found in engine.settings.items() if name != "also_for"}
    value["settings"]["platform"] = family
    manifest = Manifest(
        name="tiny",
        created="2031-05-04T12:00:00+00:00",
        toolkit_version="0.1.0",
        engine=value,
        runtime=Runtime("onnxruntime", "1.19", "1.22", family),
        metric={},
        latency=(),
        machine={},
        preprocessing=None,
        postprocessing=None,
        class_names=(),
        golden=told,
        made_from={},
        licence=None,
        files={name: FileEntry(sha256_of(path), path.stat().st_size) for name, path in sorted(files.items())},
    )
    files[FILE] = scratch / FILE
    files[FILE].write_bytes(manifest.to_bytes())
    digests = {name: sha256_of(path) for name, path in files.items()}
    files[SUMS] = scratch / SUMS
    files[SUMS].write_bytes(sums(digests))
    write_archive(files, out)
    return out
