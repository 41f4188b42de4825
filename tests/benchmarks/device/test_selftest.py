from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.device.main import main
from benchmarks.device.selftest import compared
from tests.benchmarks.device.packed import SAMPLES, other_architecture, real_bundle


@pytest.mark.parametrize("target", ["onnxruntime_mobile", "openvino"])
def test_a_bundle_passes_where_it_was_packed(target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", str(real_bundle(tmp_path, target=target))]) == 0
    loaded, passed = capsys.readouterr().out.splitlines()
    assert loaded.startswith("x.compress: loaded in ") and "ms, first inference " in loaded
    assert passed == f"pass: {SAMPLES} golden inputs answered as by a test; largest difference 0% of what is allowed"


def planted(place: tuple[int, int], value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(expected: np.ndarray) -> np.ndarray:
        expected = expected.copy()
        expected[place] += np.float32(value)
        return expected

    return change


@pytest.mark.parametrize(
    ("outputs", "sentence"),
    [
        (planted((1, 2), 0.5), "output 'logits' differs by 0.5 at golden input 1, 0.001 is allowed"),
        (
            planted((2, 0), np.nan),
            "output 'logits' is NaN or infinite in other places than expected at golden input 2,",
        ),
        (
            planted((0, 0), np.inf),
            "output 'logits' is NaN or infinite in other places than expected at golden input 0,",
        ),
        (lambda expected: expected[:, :3], "output 'logits' has shape [1, 4] instead of [1, 3] at golden input 0,"),
        (
            lambda expected: expected[..., None],
            "output 'logits' has shape [1, 4] instead of [1, 4, 1] at golden input 0",
        ),
    ],
)
def test_a_planted_difference_is_named(
    outputs: Callable[[np.ndarray], np.ndarray], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["selftest", str(real_bundle(tmp_path, outputs=outputs))]) == 5
    _, failed = capsys.readouterr().out.splitlines()
    assert failed.startswith(f"fail: {sentence}") and failed.endswith("0.001 is allowed")


def unknown(value: dict[str, Any]) -> None:
    value["engine"]["target"] = "\x1b[2Jevil:Class"


@pytest.mark.parametrize(
    ("change", "code", "sentence"),
    [
        (unknown, 3, "the bundle is for target '\\x1b[2Jevil:Class'; known: openvino, onnxruntime_mobile, tensorrt"),
        (other_architecture, 6, "pack the run again for this platform"),
        (
            lambda value: value["engine"].update(settings=value["engine"]["settings"] | {"optimisation": "evil"}),
            3,
            "onnxruntime_mobile: the runtime refuses the engine or its inputs: 'evil'",
        ),
    ],
)
def test_what_cannot_run_here_is_one_sentence(
    change: Callable[[dict[str, Any]], None],
    code: int,
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The bundle is whole; what it asks for is not here, which is no matter of security."""
    assert main(["selftest", str(real_bundle(tmp_path, change=change))]) == code
    found = capsys.readouterr()
    assert found.out == "" and sentence in found.err and len(found.err.splitlines()) == 1


def test_a_damaged_model_that_verifies_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packed so by whoever packed it: the runtime is the one to refuse it."""
    from tests.benchmarks.device.packed import real_files
    from tests.export.bundle.bundles import bundle_files, zip_bytes

    real_files(tmp_path / "made")
    (tmp_path / "x").write_bytes(zip_bytes(bundle_files()))
    assert main(["selftest", str(tmp_path / "x")]) == 6
    assert "model.ort: ONNX Runtime cannot load it: " in capsys.readouterr().err


def test_the_worst_place_of_each_output_is_told() -> None:
    one = {"a": np.zeros((1, 2)), "b": np.array([[3]])}
    two = {"a": np.array([[np.nan, 1.0]]), "b": np.array([[3]])}
    samples = [({}, one), ({}, two)]

    def told(*answers: Mapping[str, np.ndarray]) -> tuple[tuple[str, ...], float]:
        return compared(samples, answers, {"a": 0.5, "b": 0.0})

    assert told(one, two) == ((), 0.0)
    assert told(one | {"a": np.array([[0.25, 0.0]])}, two) == ((), 0.5)
    assert told(one, two | {"b": np.array([[4]])}) == (
        ("output 'b' differs by 1 at golden input 1, 0 is allowed",),
        float("inf"),
    )
    assert told({"a": one["a"]}, two)[0] == ("output 'b' is missing at golden input 0, 0 is allowed",)
    assert told(one, two | {"a": np.array([[0.0, 1.0]])})[0] == (
        "output 'a' is NaN or infinite in other places than expected at golden input 1, 0.5 is allowed",
    )
    assert told(one, two | {"a": np.array([[np.nan, -1.0]])})[0] == (
        "output 'a' differs by 2 at golden input 1, 0.5 is allowed",
    )


def test_infinities_at_the_same_place_are_the_same() -> None:
    lows = np.array([[-np.inf, np.inf, 0.0]])
    assert compared([({}, {"a": lows})], [{"a": lows.copy()}], {"a": 0.0}) == ((), 0.0)
    assert compared([({}, {"a": lows})], [{"a": -lows}], {"a": 9.0})[0]
