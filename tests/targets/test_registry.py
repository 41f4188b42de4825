"""Targets of other distributions: found by their entry points, refused in a sentence, imported when they are used."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from benchmarks.device.selftest import engine_of
from compress.cli import app
from compress.cli.doctor import print_doctor
from compress.engines import read_engine
from compress.recipe import load_recipe
from compress.recipe_schema import recipe_schema
from export.errors import EnvironmentFailure, InputError, SecurityError, UnsupportedError
from targets import REGISTRY, TARGETS, target_class
from targets.openvino import OpenVino
from targets.registry import Registration, registrations
from tests.others import PLAIN, PLAIN_ENTRY, TARGET, install, install_plain

RECIPE = """\
name: tiny
workload: workload.py:tiny
steps:
  - {step}
targets:
  - {target}
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on sys.path for other distributions; what was imported from it is forgotten again."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0].startswith("acme")]:
        del sys.modules[name]


def recipe(folder: Path, step: str = "quantize", target: str = "onnxruntime_mobile") -> Path:
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(step=step, target=target))
    return path


def changed(before: str, after: str) -> dict[str, str]:
    """The package of `plain` with something wrong in its target."""
    assert before in TARGET
    return {**PLAIN, "acme_plain/target.py": TARGET.replace(before, after)}


def test_a_recipe_names_them_like_the_built_in_ones(site: Path, tmp_path: Path) -> None:
    install_plain(site)
    loaded = load_recipe(recipe(tmp_path, "round_weights: {bits: 4}", "plain: {optimise: false}"))
    assert [(step.kind, vars(step)) for step in loaded.steps] == [("round_weights", {"bits": 4})]
    assert [(target.name, vars(target)) for target in loaded.targets] == [("plain", {"optimise": False})]


@pytest.mark.parametrize(
    ("step", "target", "told"),
    [
        (
            "quantize",
            "plane",
            r"recipe.yaml:6: targets\[0\]: unknown 'plane'; known: .*, plain\. Did you mean 'plain'\?",
        ),
        ("round_weight", "plain", r"unknown 'round_weight'; known: .*, round_weights\. Did you mean 'round_weights'\?"),
        ("round_weights", "plain: {optimize: true}", r"unknown key 'optimize'; known: optimise\. Did you mean"),
        ("round_weights: {bits: 40}", "plain", r"steps\[0\]\.round_weights: bits: found 40, allowed: 0 to 16"),
    ],
)
def test_mistakes_in_them_are_told_with_their_line(
    step: str, target: str, told: str, site: Path, tmp_path: Path
) -> None:
    install_plain(site)
    with pytest.raises(InputError, match=told):
        load_recipe(recipe(tmp_path, step, target))


def test_nothing_of_them_is_imported_before_it_is_used(site: Path, tmp_path: Path) -> None:
    install_plain(site)
    assert REGISTRY.names() == [*TARGETS, "plain"]
    load_recipe(recipe(tmp_path))
    assert "acme_plain" not in sys.modules
    assert target_class("plain").name == "plain"
    assert "acme_plain" in sys.modules


def test_a_built_in_name_cannot_be_taken(site: Path, tmp_path: Path) -> None:
    install(site, "acme-plain", "[edge_compress.targets]\nopenvino = acme_plain.target:Plain\n", PLAIN)
    assert target_class("openvino") is OpenVino
    with pytest.raises(
        EnvironmentFailure, match=r"target 'openvino' is registered by acme-plain 1\.0, but it is edge-compress's own"
    ):
        load_recipe(recipe(tmp_path, target="openvino"))
    load_recipe(recipe(tmp_path))


def test_the_reference_of_every_report_cannot_be_taken(site: Path) -> None:
    install(site, "acme-plain", "[edge_compress.targets]\ntorch = acme_plain.target:Plain\n", PLAIN)
    assert REGISTRY.names() == [*TARGETS]
    with pytest.raises(EnvironmentFailure, match="it is edge-compress's own; uninstall acme-plain"):
        REGISTRY.load("torch")


def test_two_distributions_with_one_name_are_both_named(site: Path, tmp_path: Path) -> None:
    install(site, "acme-plain", PLAIN_ENTRY, PLAIN)
    install(site, "other.plain", PLAIN_ENTRY, {}, version="3.0")
    with pytest.raises(EnvironmentFailure, match=r"'plain' is registered by acme-plain 1\.0 and by other\.plain 3\.0"):
        load_recipe(recipe(tmp_path, target="plain"))
    load_recipe(recipe(tmp_path))


def test_of_two_versions_the_first_on_the_path_counts(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "acme-plain", PLAIN_ENTRY, PLAIN)
    newer = install(site / "first", "Acme_Plain", PLAIN_ENTRY, {}, version="2.0")
    monkeypatch.syspath_prepend(str(newer))
    assert registrations(REGISTRY.group) == (Registration("plain", "acme_plain.target:Plain", "Acme_Plain", "2.0"),)


BROKEN: dict[str, tuple[dict[str, str], str]] = {
    "import": (
        changed("import time", "import acme_runtime"),
        r"\(acme_plain\.target:Plain\) cannot be imported: ModuleNotFoundError: No module named 'acme_runtime'; mend or "
        "uninstall acme-plain",
    ),
    "no such class": (
        changed("class Plain:", "class Other:"),
        "cannot be imported: AttributeError: module 'acme_plain",
    ),
    "no dataclass": (changed("@dataclass(frozen=True)", ""), "is not a frozen dataclass; docs/extending.md tells how"),
    "not frozen": (changed("(frozen=True)", ""), "is not a frozen dataclass; docs/extending.md tells how"),
    "members": (changed("def needs", "def need"), "lacks needs; docs/extending.md tells how"),
    "name": (changed('= "plain"', '= "plane"'), "calls itself 'plane', its entry point 'plain'"),
    "no default": (changed("optimise: bool = True", "optimise: bool"), "has no default for optimise, and engines"),
    "unknown type": (changed("optimise: bool =", "optimise: Missing ="), "a field of it cannot be a YAML key: "),
    "field": (
        changed("optimise: bool =", "optimise: Engine.run ="),
        "target 'plain': a field of it cannot be a YAML key",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_one_is_a_sentence_where_it_is_used_and_nowhere_else(case: str, site: Path, tmp_path: Path) -> None:
    files, told = BROKEN[case]
    install(site, "acme-plain", PLAIN_ENTRY, files)
    with pytest.raises(EnvironmentFailure, match=told):
        load_recipe(recipe(tmp_path, target="plain"))
    load_recipe(recipe(tmp_path))
    choices = recipe_schema()["properties"]["targets"]["items"]["anyOf"]
    [schema] = [each["properties"]["plain"] for each in choices if "plain" in each.get("properties", ())]
    assert schema["not"] == {} and "plain" in schema["description"]


def test_entry_points_that_cannot_be_read_harm_nobody(site: Path, tmp_path: Path) -> None:
    install(site, "acme-plain", "[edge_compress.targets]\n# theirs\nplain\nbad:name = x:y\n[edge_compress.steps]\n", {})
    assert REGISTRY.names() == [*TARGETS, "plain"]
    with pytest.raises(
        EnvironmentFailure, match=r"target 'plain' of acme-plain 1\.0 \(\) cannot be imported: ValueError"
    ):
        load_recipe(recipe(tmp_path, target="plain"))


def test_the_command_line_gives_the_sentence_and_exit_code_6(site: Path, tmp_path: Path) -> None:
    install(site, "acme-plain", PLAIN_ENTRY, BROKEN["members"][0])
    done = CliRunner().invoke(app, ["check", str(recipe(tmp_path, target="plain"))])
    assert isinstance(done.exception, EnvironmentFailure)
    assert done.exception.exit_code == 6


def test_doctor_lists_them_with_their_distribution(site: Path) -> None:
    install_plain(site)
    install(site, "acme-wrong", "[edge_compress.targets]\nwrong = acme_wrong:Wrong\n", {})
    told = io.StringIO()
    print_doctor(Console(file=told, width=240))
    assert "plain (acme-plain 1.0)" in told.getvalue()
    assert "step round_weights (acme-steps 2.1): can be used" in told.getvalue()
    assert "refused: target 'wrong' of acme-wrong 1.0 (acme_wrong:Wrong) cannot be imported" in told.getvalue()


def test_a_schema_holds_them(site: Path) -> None:
    install_plain(site)
    steps = recipe_schema()["properties"]["steps"]["items"]["anyOf"]
    [own] = [each["properties"]["round_weights"] for each in steps if "round_weights" in each.get("properties", ())]
    assert own["properties"]["bits"]["type"] == "integer"
    assert own["description"] == "Round every parameter to `bits` bits after the point."


@pytest.mark.parametrize("name", ["os:system", "acme_plain.target:Plain", "torch"])
def test_a_file_cannot_name_a_class_path(name: str, site: Path, tmp_path: Path) -> None:
    install_plain(site)
    engine: dict[str, Any] = {"target": name, "scheme": "fp32", "path": "m", "files": [], "inputs": [], "outputs": []}
    (tmp_path / "engine.json").write_text(json.dumps({**engine, "build_s": 1.0, "operators": {}, "settings": {}}))
    with pytest.raises(SecurityError, match=rf"engine\.json: is for target '{name}'; known: openvino, .*, plain"):
        read_engine(tmp_path)
    manifest: Any = SimpleNamespace(runtime=None, engine=engine)
    with pytest.raises(UnsupportedError, match=f"the bundle is for target '{name}'; known: openvino"):
        engine_of(manifest, tmp_path)
    assert "acme_plain" not in sys.modules
