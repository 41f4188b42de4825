"""An engine is deserialised unchanged and where it was built for, else built again from its ONNX, else refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.quantize.model import quantize_model
from export.errors import EnvironmentFailure, SecurityError
from targets.base import FP32, Engine
from targets.tensorrt import TensorRt
from targets.tensorrt.plan import foreign
from tests.targets import networks
from tests.targets.fake_gpu import FakeTensorRt, driver, engine_of, install

__all__ = ["driver"]

RTX = TensorRt(provider="tensorrt-rtx", compute_capabilities=("8.6",))
available = pytest.mark.skipif(bool(RTX.unavailable()), reason=str(RTX.unavailable()))


@pytest.fixture
def trt(driver: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeTensorRt:
    """A full TensorRT beside a GPU of compute capability 8.9, and a cache folder of its own."""
    made = FakeTensorRt(driver)
    install(monkeypatch, made)
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    return made


@pytest.fixture
def engine(trt: FakeTensorRt, tmp_path: Path) -> Engine:
    """Compiled here; its interface is that of the fake engines."""
    folder = tmp_path / "artifact"
    folder.mkdir()
    compiled = TensorRt().compile(networks.convolutional(tmp_path / "in.onnx"), FP32, folder)
    trt.log.clear()
    return engine_of(folder, dict(compiled.settings))


def answers(engine: Engine) -> None:
    x = np.ones((2, 3), np.float32)
    with TensorRt().load(engine, threads=1) as session:
        np.testing.assert_array_equal(session.run({"x": x})["y"], 3 * x)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_engine_of_this_gpu_and_version_is_taken_as_it_is(engine: Engine, trt: FakeTensorRt) -> None:
    answers(engine)
    assert trt.log == ["deserialise"]


def test_a_foreign_engine_says_what_is_foreign() -> None:
    settings = {"provider": "tensorrt", "version": "10.9.0", "compute_capabilities": ["8.6", "8.9"]}
    assert foreign(settings, "tensorrt", "10.9.0", "8.9") is None
    assert foreign(settings, "tensorrt", "10.8.0", "8.9") == "built by tensorrt 10.9.0, found tensorrt 10.8.0"
    assert foreign(settings, "tensorrt_rtx", "10.9.0", "8.9") == "built by tensorrt 10.9.0, found tensorrt_rtx 10.9.0"
    assert foreign(settings, "tensorrt", "10.9.0", "8.7") == ("built for compute capability 8.6, 8.9, this GPU has 8.7")


@pytest.mark.parametrize("change", ["version", "capability", "provider"])
def test_a_foreign_engine_is_built_again_once_with_the_recorded_settings(
    change: str, engine: Engine, trt: FakeTensorRt, tmp_path: Path
) -> None:
    """What was shipped is never deserialised, and stays as it was."""
    if change == "version":
        trt.__version__ = "10.10.0"
    elif change == "capability":
        trt.driver.fake_capability(8, 7)
    else:
        engine = replace(engine, settings={**engine.settings, "provider": "tensorrt_rtx", "version": "1.7.1"})
    shipped = snapshot(engine.path.parent)
    answers(engine)
    assert [entry for entry in trt.log if not entry.startswith("timings")] == ["build", "deserialise", "deserialise"]
    trt.log.clear()
    answers(engine)
    assert trt.log == ["deserialise"], "the second load finds the engine of the first"
    assert snapshot(engine.path.parent) == shipped
    [kept] = (tmp_path / "cache" / "tensorrt").glob("engine-*")
    told = json.loads((kept / "model.engine").read_bytes())
    assert told["profile"] == {"image": [[1, 3, 12, 12], [1, 3, 12, 12], [32, 3, 12, 12]]}
    assert told["workspace"] == 1024 << 20
    assert told["model"] == len(shipped["model.onnx"])
    record = json.loads((kept / "engine.json").read_text())["settings"]
    assert (record["provider"], record["version"]) == ("tensorrt", trt.__version__)
    assert str(tmp_path) not in (kept / "engine.json").read_text()


def test_a_changed_engine_is_refused_and_never_replaced(engine: Engine, trt: FakeTensorRt) -> None:
    """Also one that would be built again anyway: a wrong hash means that somebody was at it."""
    engine.path.write_bytes(engine.path.read_bytes() + b"?")
    for capability in ((8, 9), (8, 7)):
        trt.driver.fake_capability(*capability)
        with pytest.raises(
            SecurityError, match=r"model\.engine: its sha256 is not the recorded one; get the artifact again"
        ):
            answers(engine)
    assert trt.log == []


def test_a_changed_source_is_refused_before_it_is_parsed(engine: Engine, trt: FakeTensorRt) -> None:
    source = engine.path.with_name("model.onnx")
    source.write_bytes(source.read_bytes() + b"?")
    answers(engine)
    trt.driver.fake_capability(8, 7)
    trt.log.clear()
    with pytest.raises(SecurityError, match=r"model\.onnx: its sha256 is not the recorded one"):
        answers(engine)
    assert trt.log == []


def test_without_its_source_a_foreign_engine_is_refused(engine: Engine, trt: FakeTensorRt) -> None:
    trt.driver.fake_capability(8, 7)
    engine.path.with_name("model.onnx").unlink()
    with pytest.raises(SecurityError, match=r"model\.engine: there is no model\.onnx of it beside it; build it again"):
        answers(engine)


def test_a_changed_engine_in_the_cache_is_refused(engine: Engine, trt: FakeTensorRt, tmp_path: Path) -> None:
    trt.driver.fake_capability(8, 7)
    answers(engine)
    [kept] = (tmp_path / "cache" / "tensorrt").glob("engine-*/model.engine")
    kept.write_bytes(b"other")
    with pytest.raises(SecurityError, match=r"model\.engine: its sha256 is not the recorded one"):
        answers(engine)


def test_a_foreign_engine_in_the_cache_is_built_again(engine: Engine, trt: FakeTensorRt, tmp_path: Path) -> None:
    trt.driver.fake_capability(8, 7)
    answers(engine)
    [record] = (tmp_path / "cache" / "tensorrt").glob("engine-*/engine.json")
    record.write_text(record.read_text().replace('"version": "10.9.0"', '"version": "10.8.0"'))
    trt.log.clear()
    answers(engine)
    assert "build" in trt.log
    assert [path.name for path in record.parent.parent.glob("building-*")] == []


def test_a_cache_folder_that_takes_nothing_is_named(
    engine: Engine, trt: FakeTensorRt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "file"))
    answers(engine)  # needs no cache
    trt.driver.fake_capability(8, 7)
    with pytest.raises(EnvironmentFailure, match=r"takes no engine \(.*\); set COMPRESS_CACHE to a folder"):
        answers(engine)


def test_two_sessions_share_one_engine(engine: Engine, trt: FakeTensorRt) -> None:
    sessions = TensorRt().load_concurrent(engine, threads=2)
    assert trt.log == ["deserialise"]
    x = np.ones((1, 3), np.float32)
    for session in sessions:
        with session:
            np.testing.assert_array_equal(session.run({"x": x})["y"], 3 * x)


@available
def test_a_real_engine_is_built_again_from_the_bytes_beside_it(
    driver: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INT8 for 8.6 becomes the engine that is compiled for 8.9 in the first place, without the onnx package at work."""
    monkeypatch.setattr("targets.cuda.no_gpu", lambda: "not for the inspector")
    scheme = next(scheme for scheme in RTX.schemes() if scheme.name == "int8")
    model = networks.convolutional(tmp_path / "in.onnx")
    model = quantize_model(model, [networks.images(16)], scheme, tmp_path / "quantized.onnx")
    folders = [tmp_path / name for name in ("shipped", "again", "expected")]
    for folder in folders:
        folder.mkdir()
    shipped = RTX.compile(model, scheme, folders[0])
    again = RTX.rebuild(shipped, folders[1])
    expected = replace(RTX, compute_capabilities=("8.9",)).compile(model, scheme, folders[2])
    assert again.settings == expected.settings
    assert again.path.read_bytes() == expected.path.read_bytes() != shipped.path.read_bytes()
    assert (again.inputs, again.outputs, again.scheme) == (shipped.inputs, shipped.outputs, "int8")
