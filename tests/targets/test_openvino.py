"""OpenVINO: true FP32, and what the runtime graph tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compress.quantize.model import quantize_model
from export.errors import EnvironmentFailure
from targets.base import FP32
from targets.openvino import OpenVino
from tests.targets import networks

TARGET = OpenVino()
pytestmark = pytest.mark.skipif(bool(TARGET.unavailable()), reason=str(TARGET.unavailable()))


def test_fp32_is_not_run_in_bf16(tmp_path: Path) -> None:
    engine = TARGET.compile(networks.attention(tmp_path / "model.onnx"), FP32, tmp_path)
    assert engine.settings["precision_hint"] == "f32"
    assert "bf16" not in engine.operators
    assert engine.operators["fp32"] > 5


def test_int8_operators_are_counted(tmp_path: Path) -> None:
    scheme = TARGET.schemes()[0]
    model = networks.convolutional(tmp_path / "model.onnx")
    quantized = quantize_model(model, [networks.images(8)], scheme, tmp_path / "quantized.onnx")
    assert TARGET.compile(quantized, scheme, tmp_path).operators["int8"] >= 2


def test_bf16_is_offered_only_where_the_cpu_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for features, offered in ((frozenset({"avx2"}), False), (frozenset({"avx2", "bf16"}), True)):
        monkeypatch.setattr("targets.openvino.instruction_sets", lambda found=features: found)
        assert ("bf16" in [scheme.name for scheme in TARGET.schemes()]) is offered


def test_a_damaged_ir_is_refused_in_a_sentence(tmp_path: Path) -> None:
    engine = TARGET.compile(networks.convolutional(tmp_path / "model.onnx"), FP32, tmp_path)
    engine.path.write_text("<net")
    with pytest.raises(EnvironmentFailure, match=r"model\.xml: OpenVINO cannot load it"):
        TARGET.load(engine, threads=1)


def test_a_buffer_that_is_filled_anew_is_read_anew_and_any_array_is_taken(tmp_path: Path) -> None:
    engine = TARGET.compile(networks.convolutional(tmp_path / "model.onnx"), FP32, tmp_path)
    [name] = [spec.name for spec in engine.inputs]
    one, other = networks.images(2, seed=1)[name], networks.images(2, seed=2)[name]
    with TARGET.load(engine, threads=1) as session, TARGET.load(engine, threads=1) as fresh:
        expected = {key: fresh.run({name: array})["logits"] for key, array in (("one", one), ("other", other))}
        buffer = one.copy()
        assert np.array_equal(session.run({name: buffer})["logits"], expected["one"])
        buffer[:] = other
        assert np.array_equal(session.run({name: buffer})["logits"], expected["other"])
        for unusual in (one.astype(np.float64), np.asfortranarray(one), one[:, :, ::-1][:, :, ::-1]):
            assert np.array_equal(session.run({name: unusual})["logits"], expected["one"])
        assert np.array_equal(session.run({name: buffer})["logits"], expected["other"])
        assert len(session.run({name: one[:1].copy()})["logits"]) == 1
