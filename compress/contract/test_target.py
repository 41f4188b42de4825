"""A target says what it can do, compiles each of its schemes into the folder it is given, and tells what it cannot compile."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compress.contract import networks
from compress.contract.cases import (
    NETWORKS,
    TOLERANCE,
    Built,
    compiled,
    files_under,
    skip_unless_it_runs,
)
from compress.pack.private import check_private
from compress.recipe_schema import recipe_schema
from compress.run_directory import fields_of
from export.errors import UnsupportedError
from targets import FP32, REGISTRY, Engine, Target, target_class


def test_a_recipe_can_name_it(name: str) -> None:
    kind = REGISTRY.load(name)
    assert kind() == kind(), (
        f"{name}: two of its targets with the same fields are not equal; keep what a dataclass gives"
    )
    assert isinstance(fields_of(kind()), dict)
    assert kind.runtime_module(), f"{name}: runtime_module() must name the module that load imports"
    choices = recipe_schema()["properties"]["targets"]["items"]["anyOf"]
    told = next(choice["properties"][name] for choice in choices if name in choice.get("properties", ()))
    assert "not" not in told, told["description"]


def test_what_it_cannot_do_here_is_one_line(name: str) -> None:
    target: Target = REGISTRY.load(name)()
    for method in (target.unavailable, target.cannot_run):
        found = method()
        assert found is None or (found.strip() and "\n" not in found), (
            f"{name}: {method.__name__}() gave {found!r}; None or one sentence is meant"
        )


def test_a_missing_runtime_is_a_sentence_with_the_install_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target: Target = REGISTRY.load(name)()
    own = {"numpy", type(target).__module__.partition(".")[0], *sys.stdlib_module_names}
    if target.runtime_module().partition(".")[0] in own:
        pytest.skip(f"its runtime, {target.runtime_module()}, is never missing")
    for _ in range(4):  # a target may know another runtime to fall back on
        monkeypatch.setitem(sys.modules, target.runtime_module(), None)
    assert "install" in (target.unavailable() or ""), (
        f"{name}: without its runtime, unavailable() must tell how to install"
    )
    assert target.cannot_run(), f"{name}: without its runtime, cannot_run() must say why"


@pytest.mark.parametrize("made", ["convolutional", "attention"])
def test_schemes_hold_fp32_and_have_names_of_their_own(name: str, made: str, tmp_path: Path) -> None:
    target, model = target_class(name)(), NETWORKS[made][0](tmp_path / "model.onnx")
    everything = [scheme.name for scheme in target.schemes()]
    assert len(set(everything)) == len(everything), f"{name}: two schemes have one name: {', '.join(everything)}"
    assert {scheme.name for scheme in target.schemes(model)} <= set(everything)
    assert FP32 in target.schemes(), f"{name}: schemes() lacks FP32, what every gain is measured against"
    assert FP32 in target.schemes(model), f"{name}: schemes(model) lacks FP32, what every gain is measured against"


def test_every_scheme_compiles_and_computes_the_float_model(
    name: str, scheme_name: str, network: str, target: Target, tmp_path: Path
) -> None:
    make, inputs = NETWORKS[network]
    model = make(tmp_path / "model.onnx")
    scheme = next(scheme for scheme in target.schemes() if scheme.name == scheme_name)
    engine = compiled(target, model, scheme, [inputs(16)], tmp_path)
    _check_engine(engine, target, tmp_path / "engine")
    assert engine.scheme == scheme_name
    skip_unless_it_runs(target)
    fixed = engine.inputs[0].shape[0]
    with target.load(engine, threads=1) as session:
        for samples in (fixed,) if isinstance(fixed, int) else (1, 5):
            batch = inputs(samples)
            outputs, expected = session.run(batch), networks.float_outputs(model, batch)
            assert outputs.keys() == {"logits"}, (
                f"{name}: run() gave {', '.join(outputs)}; every output by its name is meant"
            )
            assert outputs["logits"].shape == (samples, 4)
            apart = np.abs(outputs["logits"] - expected).max() / np.ptp(expected)
            assert apart < TOLERANCE[scheme.precision], (
                f"{name}, scheme '{scheme_name}': at batch {samples} the answers differ from ONNX Runtime's by {apart:.3g} of "
                f"their range; {TOLERANCE[scheme.precision]:g} is allowed in {scheme.precision}"
            )


def _check_engine(engine: Engine, target: Target, out: Path) -> None:
    """The fields that everything after `compile` relies on."""
    assert engine.target == target.name
    assert engine.build_s > 0, f"{target.name}: build_s is {engine.build_s}; the seconds that compile took are meant"
    assert engine.path in engine.files, f"{target.name}: the engine's path is not among its files"
    for file in engine.files:
        assert file.is_file() and out in file.parents, (
            f"{target.name}: {file.name} is not a file in the folder given to compile"
        )
    assert engine.size_bytes > 0
    assert all(engine.inputs) and [spec.name for spec in engine.outputs] == ["logits"]


def test_compile_writes_into_its_folder_alone(
    name: str, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "current").mkdir()
    monkeypatch.chdir(tmp_path / "current")
    model = networks.convolutional(tmp_path / "model.onnx")
    before = hashlib.sha256(model.path.read_bytes()).digest()
    compiled(target, model, FP32, [], tmp_path)
    outside = {file for file in files_under(tmp_path) if not file.startswith("engine/")} - {"model.onnx"}
    assert not outside, f"{name}: compile wrote outside its folder: {', '.join(sorted(outside))}"
    assert hashlib.sha256(model.path.read_bytes()).digest() == before, f"{name}: compile changed the model it was given"


def test_no_shipped_file_names_a_place_of_this_machine(
    name: str, network: str, target: Target, build: Callable[..., Built]
) -> None:
    built = build(target, network)
    written = {file: built.folder / file for file in files_under(built.folder)}
    check_private(written)
    told = json.dumps(built.engine.to_json(built.folder)).encode()
    for where, content in {**{file: path.read_bytes() for file, path in written.items()}, "the engine": told}.items():
        assert str(built.folder.parent).encode() not in content, f"{name}: {where} holds the path it was compiled at"


def test_an_engine_survives_json_and_a_move(name: str, target: Target, tmp_path: Path) -> None:
    engine = compiled(target, networks.convolutional(tmp_path / "model.onnx"), FP32, [], tmp_path)
    written = json.dumps(engine.to_json(tmp_path / "engine"), allow_nan=False)
    (tmp_path / "engine").rename(tmp_path / "moved")
    (tmp_path / "model.onnx").unlink()
    moved = Engine.from_json(json.loads(written), tmp_path / "moved")
    assert json.dumps(moved.to_json(tmp_path / "moved")) == written
    skip_unless_it_runs(target)
    with target.load(moved, threads=1) as session:
        fixed = moved.inputs[0].shape[0]
        samples = fixed if isinstance(fixed, int) else 2
        assert session.run(networks.images(samples))["logits"].shape == (samples, 4)


def test_an_unknown_operator_is_named_with_its_node(name: str, target: Target, tmp_path: Path) -> None:
    model, out = networks.unknown(tmp_path / "model.onnx"), tmp_path / "engine"
    out.mkdir()
    with pytest.raises(UnsupportedError, match=r"Frobnicate.*\(node 'odd_one'\).*leave the target out"):
        target.compile(model, FP32, out)
