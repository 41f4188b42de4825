"""What ships: an engine tells what it needs, and its bundle verifies and answers on the device's side of the toolkit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from benchmarks.machine import library_versions
from benchmarks.report import Report, Row, Verdict, write_text_whole
from compress import __version__
from compress.contract.cases import Built
from compress.engines import ENGINE, shipped_files
from compress.pack import pack
from compress.pack.kept import write_kept
from export.bundle.manifest import Runtime
from export.bundle.verify import verify
from targets import Engine, Target


def test_an_engine_tells_what_it_needs(name: str, target: Target, build: Callable[..., Built]) -> None:
    built = build(target)
    needs = target.needs(built.engine)
    texts = {field.name: getattr(needs.runtime, field.name) for field in fields(Runtime)}
    capabilities = texts.pop("compute_capabilities")
    assert all(isinstance(text, str) for text in (*texts.values(), *capabilities)), f"{name}: {needs.runtime}"
    assert needs.runtime.package and needs.runtime.minimum, (
        f"{name}: needs() must name a package and its oldest version"
    )
    assert needs.runtime.architecture in ("any", "amd64", "arm64"), (
        f"{name}: architecture {needs.runtime.architecture!r}"
    )
    for file in needs.files:
        assert file.is_file() and built.folder in file.parents, (
            f"{name}: needs() names {file.name}, which is not beside the engine"
        )


def test_its_bundle_verifies_and_answers_with_its_own_runner_alone(
    name: str, target: Target, build: Callable[..., Built], tmp_path: Path
) -> None:
    """The runner starts in a process that does not see PYTHONPATH: what it needs of the target's package it carries."""
    built = build(target)
    if target.cannot_run() and not (built.folder / "model.onnx").is_file():
        pytest.skip(f"{target.cannot_run()}; and no model.onnx beside the engine tells the golden outputs")
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    _write_run(built, run)
    pack(run, name, bundle)
    verify(bundle)
    asked = [sys.executable, "-E", str(bundle / "runner.pyz"), "selftest"]
    done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    if reason := target.cannot_run():
        assert done.returncode == 6, (
            f"{name}: cannot run here, but the bundle's selftest said: {done.stdout}{done.stderr}"
        )
        pytest.skip(reason)
    assert done.returncode == 0, f"{name}: the bundle's selftest said: {done.stdout}{done.stderr}"


def _write_run(built: Built, run: Path) -> None:
    """A run's folder as far as packing reads it; its artifact is the engine."""
    name, scheme = built.target.name, built.engine.scheme
    place = run / "artifacts" / name / scheme
    shutil.copytree(built.folder, place)
    engine = Engine.from_json(built.engine.to_json(built.folder), place)
    write_text_whole(place / ENGINE, json.dumps(engine.to_json(place)))
    told: dict[str, Any] = {"preprocessing": None, "postprocessing": None, "class_names": [], "licence": None}
    write_kept(run, [built.batch(1, seed=seed) for seed in range(3)], told)
    report = Report(
        name="contract",
        created="",
        toolkit_version=__version__,
        recipe={},
        seed=0,
        command="",
        metric="none",
        higher_is_better=True,
        budget={},
        stages=(),
        rows=(Row(name, "original", scheme, "chosen", "compiled", files=shipped_files(engine, run)),),
        verdicts=(Verdict(name, "not run here", scheme, ()),),
        machine={},
        versions=library_versions(),
        hashes={},
    )
    report.write(run / "report.json")
