"""What every target promises: each scheme compiles, and what runs here computes what the float model computes."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from compress.quantize.model import quantize_model
from export.errors import UnsupportedError
from export.model import OnnxModel
from targets import FP32, TARGETS, Arrays, Engine, Scheme, Session, Target, target_class
from tests.targets import networks

NETWORKS: dict[str, tuple[Callable[[Path], OnnxModel], Callable[..., Arrays]]] = {
    "convolutional": (networks.convolutional, networks.images),
    "attention": (networks.attention, networks.sentences),
}
CASES = [
    (name, scheme.name, network)
    for name in TARGETS
    for scheme in target_class(name)().schemes()
    for network in NETWORKS
]
# Largest difference over the spread of the logits: half a step of FP32 sums, of 11 bits, of 8 bits, of 7-bit weights, of 4-bit weights.
TOLERANCE = {"fp32": 1e-5, "bf16": 0.03, "fp16": 0.005, "int8": 0.1, "int4": 0.2}


@pytest.fixture(params=NETWORKS)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> OnnxModel:
    return NETWORKS[request.param][0](tmp_path / "model.onnx")


def _target(name: str) -> Target:
    target = target_class(name)()
    if reason := target.unavailable():
        pytest.skip(reason)
    return target


def _compiled(target: Target, model: OnnxModel, scheme: Scheme, calibration: list[Arrays], folder: Path) -> Engine:
    quantized = model
    if scheme.quantizer != "none":
        quantized = quantize_model(model, calibration, scheme, folder / "quantized.onnx")
    out = folder / "engine"
    out.mkdir()
    return target.compile(quantized, scheme, out)


@pytest.mark.parametrize(("name", "scheme_name", "network"), CASES)
def test_every_scheme_compiles_and_computes_the_float_model(
    name: str, scheme_name: str, network: str, tmp_path: Path
) -> None:
    target, (make, inputs) = _target(name), NETWORKS[network]
    model = make(tmp_path / "model.onnx")
    scheme = next(scheme for scheme in target.schemes() if scheme.name == scheme_name)
    engine = _compiled(target, model, scheme, [inputs(16)], tmp_path)
    assert (engine.target, engine.scheme) == (name, scheme_name)
    assert engine.size_bytes > 0
    assert engine.build_s > 0
    if reason := target.cannot_run():
        pytest.skip(reason)
    with target.load(engine, threads=1) as session:
        for samples in (1, 5):
            batch = inputs(samples)
            logits, expected = session.run(batch)["logits"], networks.float_outputs(model, batch)
            assert logits.shape == (samples, 4)
            assert np.abs(logits - expected).max() < TOLERANCE[scheme.precision] * np.ptp(expected)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", TARGETS)
def test_concurrent_sessions_answer_as_one_does_also_all_at_once(name: str, network: str, tmp_path: Path) -> None:
    target, (make, inputs) = _target(name), NETWORKS[network]
    engine = _compiled(target, make(tmp_path / "model.onnx"), FP32, [], tmp_path)
    if reason := target.cannot_run():
        pytest.skip(reason)
    batches = [inputs(2, seed=seed) for seed in range(6)]
    with target.load(engine, threads=1) as session:
        expected = [session.run(batch)["logits"] for batch in batches]
    check_concurrent(target.load_concurrent(engine, threads=2), batches, expected)


def check_concurrent(sessions: Sequence[Session], batches: list[Arrays], expected: list[np.ndarray]) -> None:
    """Each session alone, then all of them at once in threads, keep their answers while later ones are computed."""
    assert len(sessions) >= 2
    together = threading.Barrier(len(sessions))

    def many(session: Session) -> list[np.ndarray]:
        together.wait(timeout=60)
        return [session.run(batch)["logits"] for _ in range(30) for batch in batches]

    with ExitStack() as stack, ThreadPoolExecutor(len(sessions)) as pool:
        opened = [stack.enter_context(session) for session in sessions]
        alone = [[session.run(batch)["logits"] for batch in batches] for session in opened]
        at_once = list(pool.map(many, opened))
    for answers in (*alone, *at_once):
        for found, wanted in zip(answers, expected * (len(answers) // len(expected)), strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-5)
    kept = [answer for answers in alone for answer in answers]
    assert not any(np.shares_memory(one, other) for one, other in itertools.combinations(kept, 2))


@pytest.mark.parametrize("name", TARGETS)
def test_schemes_hold_fp32_and_have_names_of_their_own(name: str, model: OnnxModel) -> None:
    target = target_class(name)()
    everything = [scheme.name for scheme in target.schemes()]
    assert len(set(everything)) == len(everything)
    assert {scheme.name for scheme in target.schemes(model)} <= set(everything)
    assert FP32 in target.schemes(model)


@pytest.mark.parametrize("name", TARGETS)
def test_an_engine_survives_json_and_a_move(name: str, tmp_path: Path) -> None:
    target = _target(name)
    engine = _compiled(target, networks.convolutional(tmp_path / "model.onnx"), FP32, [], tmp_path)
    written = json.dumps(engine.to_json(tmp_path / "engine"))
    (tmp_path / "engine").rename(tmp_path / "moved")
    moved = Engine.from_json(json.loads(written), tmp_path / "moved")
    assert moved.size_bytes > 0
    if reason := target.cannot_run():
        pytest.skip(reason)
    with target.load(moved, threads=1) as session:
        assert session.run(networks.images(2))["logits"].shape == (2, 4)


@pytest.mark.parametrize("name", TARGETS)
def test_no_shipped_file_names_a_place_of_this_machine(name: str, model: OnnxModel, tmp_path: Path) -> None:
    target = _target(name)
    _compiled(target, model, FP32, [], tmp_path)
    for file in (tmp_path / "engine").iterdir():
        assert str(tmp_path).encode() not in file.read_bytes(), file.name


@pytest.mark.parametrize("name", TARGETS)
def test_an_unknown_operator_is_named_with_its_node(name: str, tmp_path: Path) -> None:
    target = _target(name)
    with pytest.raises(UnsupportedError, match=r"Frobnicate.*\(node 'odd_one'\).*leave the target out"):
        target.compile(networks.unknown(tmp_path / "model.onnx"), FP32, tmp_path)


@pytest.mark.parametrize("name", TARGETS)
def test_a_missing_runtime_is_a_sentence_with_the_install_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("openvino", "onnxruntime_mobile", "tensorrt"):
        monkeypatch.setattr(f"targets.{module}.find_spec", lambda _: None)
    target = target_class(name)()
    assert "pip install" in (target.unavailable() or "")
    assert target.cannot_run()
