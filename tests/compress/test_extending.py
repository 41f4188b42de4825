"""Another author's distribution, from its contract to a bundle: `pytest --pyargs compress.contract`, a recipe, a runner."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from benchmarks.device.selftest import selftest
from benchmarks.machine import usable_cores
from compress.contract.cases import parametrize
from compress.engines import of_other
from compress.explain import explain_run
from compress.pack import pack
from compress.pack.runner import make_runner, modules
from compress.pipeline import run
from compress.step import REGISTRY
from export.bundle.verify import unpacked, verify
from export.errors import UnsupportedError
from tests.compress.tiny import write_tiny
from tests.others import PLAIN, PLAIN_ENTRY, SESSION, TARGET, install, install_plain

ROOT = Path(__file__).parents[2]
RECIPE = """\
name: tiny
workload: workload.py:tiny
steps:
  - round_weights: {bits: 10}
targets:
  - plain: {optimise: false}
benchmark: {seconds: 0.2, processes: 1, half_width: 0.9, throughput: false}
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path of this process and of those that it starts."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(folder)]))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0].startswith("acme")]:
        del sys.modules[name]


def contract(folder: Path) -> subprocess.CompletedProcess[str]:
    asked = [sys.executable, "-m", "pytest", "--pyargs", "compress.contract", "-q", "-p", "no:cacheprovider", "-rfE"]
    return subprocess.run(asked, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


def test_a_right_target_passes_the_contract(site: Path, tmp_path: Path) -> None:
    install_plain(site)
    done = contract(tmp_path)
    assert done.returncode == 0, done.stdout[-3000:]
    # Two of the contract's tests need two cores.
    assert ("18 passed" if usable_cores() > 1 else "16 passed, 2 skipped") in done.stdout


def test_a_wrong_target_fails_it_with_sentences(site: Path, tmp_path: Path) -> None:
    wrong = (
        TARGET.replace("return (FP32,)", "return (FP32, FP32)")
        .replace("path.write_bytes(", "open('left.txt', 'w').close(); path.write_bytes(str(out).encode() * 0 + ")
        .replace('Needs(Runtime("onnxruntime"', 'Needs(Runtime(""')
        .replace('UnsupportedError("plain: does', 'UnsupportedError("it does')
    )
    twice = SESSION.replace("dict(zip(self._names, ", "dict(zip(self._names, (2 * each for each in ").replace(
        "s)))", "s))))"
    )
    install(site, "acme-plain", PLAIN_ENTRY, {**PLAIN, "acme_plain/target.py": wrong, "acme_plain/session.py": twice})
    done = contract(tmp_path)
    assert done.returncode == 1
    for told in (
        "plain: two schemes have one name: fp32, fp32",
        "plain, scheme 'fp32': at batch 1 the answers differ from ONNX Runtime's by ",
        "plain: compile wrote outside its folder: current/left.txt",
        "plain: needs() must name a package and its oldest version",
        "plain: the refusal must begin with the target's name, found: it does not tell of layers",
    ):
        assert told in done.stdout, told


def test_without_a_registered_target_the_contract_does_not_pass() -> None:
    test: Any = SimpleNamespace(fixturenames=["name", "tmp_path"])
    with pytest.raises(
        pytest.UsageError, match=r"registers a target in the group edge_compress\.targets; see docs/ext"
    ):
        parametrize(test, [])


def test_a_recipe_runs_another_authors_step_and_target_and_packs_what_ships(site: Path, tmp_path: Path) -> None:
    install_plain(site)
    report = run(write_tiny(tmp_path, RECIPE), tmp_path / "run")
    assert [(stage.step, stage.facts) for stage in report.stages[1:]] == [("round_weights", {"bits": 10})]
    assert [verdict.target for verdict in report.verdicts] == ["plain"]
    assert {"acme-plain": "1.0", "acme-steps": "2.1"}.items() <= report.versions.items()
    packed = pack(tmp_path / "run", "plain", tmp_path / "tiny.compress", anyway=True)
    manifest = verify(tmp_path / "tiny.compress").manifest
    assert (manifest.runtime.package, manifest.runtime.minimum) == ("onnxruntime", "1.19")
    assert manifest.runtime.built_with == report.versions["onnxruntime"]
    with unpacked(packed.bundle) as folder:
        assert selftest(manifest, folder).passed
        (site / "acme_plain-1.0.dist-info" / "entry_points.txt").write_text("")
        with pytest.raises(UnsupportedError, match="the bundle is for target 'plain'; known: openvino"):
            selftest(manifest, folder)
    explained = explain_run(tmp_path / "run", None, None, Console(quiet=True))
    assert explained.left_out[0] == "plain: not explained: no target of that name is installed"


def test_a_stage_is_kept_under_the_version_of_the_step_that_made_it(site: Path) -> None:
    install_plain(site)
    assert of_other(REGISTRY, "round_weights") == {"distribution": "acme-steps 2.1"}
    assert of_other(REGISTRY, "prune") == {}


def test_the_runner_takes_what_the_targets_own_package_imports(site: Path) -> None:
    files = {**PLAIN, "acme_plain/unused.py": "raise SystemExit"}
    install(site, "acme-plain", PLAIN_ENTRY, files)
    found = {place for place in modules("plain") if place.startswith("acme")}
    assert found == {"acme_plain/__init__.py", "acme_plain/target.py", "acme_plain/session.py"}
    assert make_runner("plain") == make_runner("plain")
    assert not [place for place in modules("openvino") if place.startswith("acme")]


def test_a_package_with_compiled_parts_is_refused(site: Path) -> None:
    install(site, "acme-plain", PLAIN_ENTRY, {**PLAIN, "acme_plain/target.py": f"from . import fast\n{TARGET}"})
    (site / "acme_plain" / f"fast{EXTENSION_SUFFIXES[0]}").write_bytes(b"")
    with pytest.raises(
        UnsupportedError, match=r"plain: its module acme_plain\.fast is compiled \(fast\..*make it a package of"
    ):
        make_runner("plain")
