"""The roofline of this machine: its arithmetic, its models on real runtimes, and the refusal to invent a peak."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.explain import roofline
from benchmarks.explain.roofline import KINDS, Roofline, copy_bandwidth, last_level_cache, line, measure_roofline
from benchmarks.explain.roofline_models import CHAINS, DEEP, Kind, chain, product
from export.model import OnnxModel
from targets import FP32, target_class
from targets.onnxruntime_mobile import OnnxRuntimeMobile

CPU_TARGETS = ("openvino", "onnxruntime_mobile")


def test_dispatch_is_the_slope_and_the_empty_call_the_rest() -> None:
    assert line(short_s=30e-6, long_s=94e-6, short=8, long=72) == pytest.approx((1e-6, 22e-6))
    assert line(short_s=30e-6, long_s=29e-6, short=8, long=72)[0] == 1e-9


def test_a_precision_that_was_not_measured_has_the_peak_of_fp32() -> None:
    known = Roofline({"matmul": {"fp32": 2.0, "int8": 3.0}, "convolution": {"fp32": 1.0}}, 1.0, 1.0, 1, 1.0, 1.0)
    assert (known.peak("matmul", "int8"), known.peak("matmul", "bf16"), known.peak("other", "fp32")) == (3.0, 2.0, None)
    assert (known.int8_gain("matmul"), known.int8_gain("convolution"), known.int8_gain("other")) == (1.5, None, None)


@pytest.mark.timing
def test_a_copy_counts_what_is_read_and_what_is_written() -> None:
    """This machine copies somewhere between a slow board's and an accelerator's memory."""
    assert 1e8 < copy_bandwidth(1 << 20, threads=1, seconds=0.02) < 1e13
    assert last_level_cache() >= 32 * 1024


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CPU_TARGETS)
def test_its_products_run_in_the_precision_that_they_stand_for(
    name: str, kind: Kind, precision: str, tmp_path: Path
) -> None:
    target = target_class(name)()
    if reason := target.unavailable():
        pytest.skip(reason)
    (tmp_path / "in.onnx").write_bytes(product(kind, precision))  # type: ignore[arg-type]
    model = OnnxModel.read(tmp_path / "in.onnx")
    scheme = next(each for each in target.schemes() if each.precision == precision and each.mode == "static")
    engine = target.compile(model, scheme, tmp_path)
    inputs = {"x": np.ones(model.inputs[0].shape, np.float32)}
    profile = target.profile(engine, inputs, threads=1, runs=4)
    products = [layer for layer in profile.layers if roofline.work_of(layer).macs]
    assert [layer.precision for layer in products] == [precision] * DEEP


@pytest.mark.parametrize("name", CPU_TARGETS)
def test_no_runtime_shortens_the_chains(name: str, tmp_path: Path) -> None:
    target = target_class(name)()
    if reason := target.unavailable():
        pytest.skip(reason)
    (tmp_path / "in.onnx").write_bytes(chain(CHAINS[0]))
    assert len(onnx.load(tmp_path / "in.onnx").graph.node) == CHAINS[0]
    engine = target.compile(OnnxModel.read(tmp_path / "in.onnx"), FP32, tmp_path)
    assert engine.operators["fp32"] >= CHAINS[0]


@pytest.mark.timing
def test_the_whole_roofline_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "RUNS", 8)
    found = measure_roofline(OnnxRuntimeMobile(), threads=1)
    assert set(found.peaks) == set(KINDS)
    assert all(per_s > 1e8 for peaks in found.peaks.values() for per_s in peaks.values())
    assert {precision for peaks in found.peaks.values() for precision in peaks} == {"fp32", "int8"}
    assert found.cache_bytes_per_s >= found.memory_bytes_per_s > 1e7
    assert 0 < found.dispatch_s < 1e-3
    assert found.notes == ()


def test_a_peak_that_cannot_be_measured_is_told_not_invented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "RUNS", 4)
    monkeypatch.setattr(roofline, "product", lambda kind, precision: product(kind, "fp32"))
    found = measure_roofline(OnnxRuntimeMobile(), threads=1)
    assert "int8" not in found.peaks["matmul"]
    assert any("no peak of a matmul in INT8: the runtime ran none in INT8" in note for note in found.notes)
