"""The runner that ships: what is in it, how large it is, which Pythons it runs on, and what it never imports."""

from __future__ import annotations

import ast
import io
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from compress.pack.runner import MODULES, bare, make_runner, modules
from targets import TARGETS
from tests.benchmarks.device.packed import real_bundle
from tests.export.bundle.bundles import bundle_files, zip_bytes

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "onnx", "psutil", "pydantic", "typer", "rich", "yaml", "jinja2", "plotly", "safetensors", "filelock")
MODULES_OF_ANY = {place for target in TARGETS for place in modules(target, writes=True)}


def braces(pattern: str) -> list[str]:
    """ "a/{b,c}.py" -> "a/b.py", "a/c.py"."""
    head, brace, rest = pattern.partition("{")
    inside, _, tail = rest.partition("}")
    return [head + each + tail for each in inside.split(",")] if brace else [pattern]


def test_ruffs_list_of_python_3_9_holds_what_the_runner_holds() -> None:
    """targets/ and export/ are whole: what is not in the runner there is told by test_imports.py."""
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["per-file-target-version"]
    patterns = [each for pattern, version in lint.items() if version == "py39" for each in braces(pattern)]
    unlisted = {
        place for place in MODULES_OF_ANY if not any(PurePosixPath(place).match(pattern) for pattern in patterns)
    }
    assert {place for place in unlisted if (ROOT / place).read_text().strip()} <= {"benchmarks/__init__.py"}
    needless = [
        each for each in patterns if each.startswith("benchmarks/") and "*" not in each and each not in MODULES_OF_ANY
    ]
    assert needless == []


@pytest.mark.parametrize("place", sorted(MODULES_OF_ANY))
def test_every_module_is_python_3_9_and_keeps_its_lines(place: str) -> None:
    source = (ROOT / place).read_text(encoding="utf-8")
    whole, stripped = ast.parse(source), ast.parse(bare(source), feature_version=(3, 9))
    lines = [[node.lineno for node in ast.walk(tree) if isinstance(node, ast.Call)] for tree in (whole, stripped)]
    assert lines[0] == lines[1], "a traceback tells the place in the repository"


def test_on_a_device_too_no_runtime_reports_to_its_vendor() -> None:
    for target in TARGETS:
        assert "report_to_nobody()" in modules(target)["export/__init__.py"] and "export/privacy.py" in modules(target)


def test_documentation_is_left_out_and_code_is_not() -> None:
    source = (
        '"""Doc."""\nX = """# kept"""  # gone\ndef f():\n    """Doc\n    of lines."""\n    return "kept"\n'
        'class C:\n    a: int\n    """Doc."""\n'
        "if TYPE_CHECKING:\n    import gone\ndef g(a: dict[str, int], *, b: str = ':') -> str | None: return b * a['->']\n"
    )
    scope: dict[str, object] = {}
    exec(bare(source), scope)
    assert scope["X"] == "# kept" and scope["f"]() == "kept" and not re.search("Doc|gone", bare(source))  # type: ignore[operator]
    assert "def g(a, *, b = ':'): return b * a['->']" in bare(source)
    assert set(scope["C"].__annotations__) == {"a"}, "the fields of a dataclass are told by their types"


@pytest.mark.parametrize("target", TARGETS)
def test_it_is_small_and_the_same_each_time(target: str) -> None:
    made = make_runner(target)
    assert made == make_runner(target)
    assert len(made) < 100_000, "the issue asks for less"
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        assert archive.namelist() == ["__main__.py", MODULES]
        held = zipfile.ZipFile(io.BytesIO(archive.read(MODULES))).namelist()
    assert not [name for name in held if name.startswith("compress/")]
    others = {"openvino", "onnxruntime", "tensorrt"} - {"onnxruntime" if "onnx" in target else target}
    assert not [name for name in held if name.startswith(tuple(f"targets/{other}_session" for other in others))]


BLOCKED = """
import importlib.abc, sys
class Refused(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {heavy!r}:
            raise ModuleNotFoundError(f"{{name}} is not on a device", name=name)
sys.meta_path.insert(0, Refused())
"""


def on_a_device(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Python, and the workers that it starts, to which the packages of a desk do not exist, nor the toolkit."""
    for name in ("site", "temporary"):
        (folder / name).mkdir()
    (folder / "site" / "sitecustomize.py").write_text(BLOCKED.format(heavy=HEAVY))
    environment = {**os.environ, "PYTHONPATH": str(folder / "site"), "TMPDIR": str(folder / "temporary")}
    command = [sys.executable, *words]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, env=environment, cwd=folder, timeout=120
    )


@pytest.mark.parametrize("target", ["onnxruntime_mobile", "openvino"])
def test_it_needs_numpy_and_one_runtime(target: str, tmp_path: Path) -> None:
    bundle = real_bundle(tmp_path, target=target)
    (tmp_path / "runner.pyz").write_bytes(make_runner(target))
    found = on_a_device(tmp_path, "runner.pyz", "selftest", bundle.name)
    assert (found.returncode, found.stderr) == (0, "") and "pass: 3 golden inputs" in found.stdout
    assert not list((tmp_path / "temporary").glob("compress-*")), "what was unpacked is gone"


MEASURE = """
import sys
from pathlib import Path, PurePosixPath
sys.path.insert(0, "modules.zip")
from benchmarks.device.measure import measured_here
from benchmarks.latency import Protocol
from export.bundle.verify import unpacked, verify
if __name__ == "__main__":
    bundle = verify(Path(sys.argv[1]))
    with unpacked(bundle) as folder:
        found = measured_here(bundle, folder, Protocol(seconds=0.05, processes=1, half_width=0.9))
    print(found["latency"][0]["batch_size"], found["findings"])
"""


def test_its_workers_measure_without_the_packages_of_a_desk(tmp_path: Path) -> None:
    """With a shorter protocol than `bench` has."""
    bundle = real_bundle(tmp_path)
    with zipfile.ZipFile(io.BytesIO(make_runner("onnxruntime_mobile"))) as archive:
        archive.extract(MODULES, tmp_path)
    (tmp_path / "measure.py").write_text(MEASURE)
    found = on_a_device(tmp_path, "measure.py", bundle.name)
    assert (found.returncode, found.stderr, found.stdout) == (0, "", "1 []\n")


def older_pythons() -> list[str]:
    """Interpreters that can do nothing more than 3.9 or 3.10: on the path, or pyenv's."""
    found = [shutil.which(f"python3.{minor}") for minor in (9, 10)]
    roots = [Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"]
    found += [str(path) for root in roots for minor in (9, 10) for path in sorted(root.glob(f"3.{minor}.*/bin/python"))]
    return [path for path in found if path is not None and _runs(path)]


def _runs(python: str) -> bool:
    """A shim of pyenv lies on the path also where its version is not chosen."""
    asked = subprocess.run(
        [python, "-c", "import sys; print(sys.version_info >= (3, 9))"], check=False, capture_output=True
    )
    return asked.returncode == 0


OLDER = older_pythons()


@pytest.mark.skipif(not OLDER, reason="no python3.9 or python3.10 on the path or among pyenv's")
def test_an_old_python_without_packages_verifies(tmp_path: Path) -> None:
    (tmp_path / "x.compress").write_bytes(zip_bytes(bundle_files()))
    (tmp_path / "bad.compress").write_bytes(zip_bytes(bundle_files())[:-1])
    (tmp_path / "runner.pyz").write_bytes(make_runner("onnxruntime_mobile"))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        """-I -S: no packages, whatever is installed there."""
        command = [OLDER[0], "-I", "-S", "runner.pyz", *words]
        return subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path, timeout=60)

    told = run("--help")
    assert told.returncode == 0 and "Checks, times and asks a model in a bundle." in told.stdout
    whole = run("verify", "x.compress")
    assert (whole.returncode, whole.stderr) == (0, "") and whole.stdout.startswith("x.compress: whole. small for")
    assert run("verify", "bad.compress").returncode == 4
    for words in (["selftest"], ["bench"], ["predict", "a text"]):
        refused = run(*words, "x.compress")
        assert refused.returncode == 6 and refused.stdout == ""
        assert refused.stderr == f"error: {words[0]} needs numpy, which is not installed; pip install numpy\n"
