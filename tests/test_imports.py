"""The packages' import direction, and that the lower ones live without torch."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from targets import FP32, target_class
from tests.targets import networks

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "export": set(),
    "targets": {"export"},
    "benchmarks": {"targets", "export"},
    "compress": {"benchmarks", "targets", "export"},
}
HEAVY = ("torch", "pydantic", "openvino", "nncf", "tensorrt_rtx", "transformers", "onnxruntime", "onnx", "plotly")


def imported(file: Path) -> set[str]:
    """Top-level names that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_go_one_way(package: str) -> None:
    forbidden = set(ALLOWED) - ALLOWED[package] - {package}
    found = {str(file.relative_to(ROOT)): imported(file) & forbidden for file in (ROOT / package).rglob("*.py")}
    assert {file: names for file, names in found.items() if names} == {}


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}; import sys; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import benchmarks.worker, benchmarks.latency, benchmarks.accuracy, benchmarks.machine, benchmarks.report",
        "import benchmarks.bench, benchmarks.tails",
        "import targets; [targets.target_class(name)().schemes for name in targets.TARGETS]",
        "import export, export.model, export.errors",
        "import compress, compress.cli",
    ],
)
def test_what_an_edge_device_or_help_imports_is_light(statement: str) -> None:
    assert loaded_after(statement) & set(HEAVY) == set()


@pytest.mark.parametrize("name", ["openvino", "onnxruntime_mobile"])
def test_an_engine_is_loaded_and_run_by_its_runtime_alone(name: str, tmp_path: Path) -> None:
    target = target_class(name)()
    if reason := target.unavailable() or target.cannot_run():
        pytest.skip(reason)
    engine = target.compile(networks.convolutional(tmp_path / "in.onnx"), FP32, tmp_path)
    (tmp_path / "engine.json").write_text(json.dumps(engine.to_json(tmp_path)))
    found = loaded_after(
        "import json, pathlib, numpy; from targets import Engine, target_class; "
        f"folder = pathlib.Path({str(tmp_path)!r}); "
        "engine = Engine.from_json(json.loads((folder / 'engine.json').read_text()), folder); "
        "session = target_class(engine.target)().load(engine, 1); "
        "session.run({'image': numpy.zeros((2, 3, 12, 12), numpy.float32)})"
    )
    assert found & set(HEAVY) == {target.runtime_module()}


@pytest.mark.parametrize("file", sorted((ROOT / "targets").glob("*.py")), ids=lambda file: file.name)
def test_what_a_device_runs_is_python_3_9(file: Path) -> None:
    ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 9))
