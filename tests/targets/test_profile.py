"""Profiles: real ones of tiny models on every runtime that is here, and what is read from recorded counters."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from compress.quantize.model import quantize_model
from export.errors import UnsupportedError
from export.model import OnnxModel, TensorSpec
from export.to_onnx import save_reference
from targets import TARGETS, Arrays, Engine, LayerTime, Scheme, Session, Target, target_class
from targets.base import median_call_s, without_profiler
from targets.onnxruntime_mobile.profile import idle_s, kernel_precision, read_profile
from targets.openvino.profile import typical_s
from targets.tensorrt import TensorRt
from targets.tensorrt.profile import read_layers
from targets.torch_reference import TorchReference
from tests.targets import networks

NETWORKS: dict[str, tuple[Callable[[Path], OnnxModel], Callable[[int], Arrays]]] = {
    "convolutional": (networks.convolutional, networks.images),
    "attention": (networks.attention, networks.sentences),
}


def _engine(name: str, network: str, precision: str, folder: Path) -> tuple[Target, Engine]:
    target = target_class(name)()
    if reason := target.unavailable() or target.cannot_run():
        pytest.skip(reason)
    make, inputs = NETWORKS[network]
    model = make(folder / "in.onnx")
    scheme = next(
        (each for each in target.schemes() if each.precision == precision and each.mode == "static"), Scheme("", "int8")
    )
    if scheme.quantizer != "none":
        model = quantize_model(model, [inputs(16)], scheme, folder / "quantized.onnx")
    return target, target.compile(model, scheme, folder)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", TARGETS)
def test_a_profile_holds_the_operators_of_one_call(name: str, network: str, tmp_path: Path) -> None:
    target, engine = _engine(name, network, "fp32", tmp_path)
    profile = target.profile(engine, NETWORKS[network][1](4), threads=1, runs=12)
    total_s = sum(layer.time_s for layer in profile.layers)
    assert profile.call_s > 0
    assert all(layer.time_s >= 0 for layer in profile.layers)
    assert profile.call_s / 20 < total_s < 3 * profile.call_s
    assert {layer.precision for layer in profile.layers} <= {"fp32", "int8", "other"}
    assert len(profile.layers) >= 3


@pytest.mark.parametrize("name", TARGETS)
def test_an_int8_engine_shows_int8_products_with_their_weights_shapes(name: str, tmp_path: Path) -> None:
    target, engine = _engine(name, "convolutional", "int8", tmp_path)
    profile = target.profile(engine, networks.images(2), threads=1, runs=12)
    int8 = [layer for layer in profile.layers if layer.precision == "int8"]
    shapes = [shape for layer in int8 for shape in layer.inputs]
    assert len(int8) >= 2
    assert (16, 3, 3, 3) in shapes


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "tensorrt"])
def test_a_profile_leaves_no_file_behind(name: str, tmp_path: Path) -> None:
    target, engine = _engine(name, "convolutional", "fp32", tmp_path)
    before = sorted(tmp_path.iterdir())
    target.profile(engine, networks.images(1), threads=1, runs=4)
    assert sorted(tmp_path.iterdir()) == before


def test_torch_tells_its_aten_operators(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()).eval()

    class Named(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.model(image)

    inputs = {"image": torch.ones(2, 3, 8, 8)}
    save_reference(Named(), inputs, {}, tmp_path / "model.program", ("y",))
    specs = (TensorSpec("image", "float32", (2, 3, 8, 8)),), (TensorSpec("y", "float32", (2, 4, 6, 6)),)
    engine = Engine("torch", "fp32", tmp_path / "model.program", (tmp_path / "model.program",), *specs, build_s=0.0)
    profile = TorchReference().profile(engine, {"image": inputs["image"].numpy()}, threads=1, runs=3)
    assert any("conv" in layer.operator for layer in profile.layers)
    assert all(layer.time_s >= 0 for layer in profile.layers)


def test_tensorrt_without_a_gpu_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("targets.cuda.no_gpu", lambda: "no NVIDIA GPU on this machine")
    monkeypatch.setattr(TensorRt, "unavailable", lambda self: None)
    engine = Engine("tensorrt", "fp16", tmp_path / "model.engine", (), (), (), build_s=0.0)
    with pytest.raises(UnsupportedError, match=r"cannot profile model\.engine: no NVIDIA GPU on this machine"):
        TensorRt().profile(engine, {}, threads=1, runs=3)


def test_tensorrts_layers_are_read_with_and_without_details() -> None:
    detailed = {
        "Layers": [
            {
                "Name": "conv1",
                "LayerType": "CaskConvolution",
                "Inputs": [
                    {"Name": "x", "Dimensions": [1, 3, 8, 8], "Format/Datatype": "Row major linear FP16 format"}
                ],
                "Outputs": [{"Name": "y", "Dimensions": [1, 4, 8, 8], "Format/Datatype": "Row major Int8 format"}],
            }
        ]
    }
    [layer] = read_layers(json.dumps(detailed), {"conv1": [0.3, 0.1, 0.2]})
    assert (layer.operator, layer.precision, layer.inputs, layer.outputs) == (
        "CaskConvolution",
        "int8",
        ((1, 3, 8, 8),),
        ((1, 4, 8, 8),),
    )
    assert layer.time_s == pytest.approx(0.2e-3)
    [bare] = read_layers(json.dumps({"Layers": ["conv1"]}), {"conv1": [1.0]})
    assert (bare.name, bare.operator, bare.precision) == ("conv1", "layer", "other")


@pytest.mark.parametrize(
    ("blocks", "expected_us"),
    [
        ([[0, 0, 0, 0, 0, 0]], 0.0),  # never reached a microsecond
        ([[9, 9, 9, 9, 9, 9]], 10.0),  # 9 and the two cut halves
        ([[900, 500, 400, 325, 280, 250]], 101.0),  # cold at first: 900, then 100 every time
        ([[100, 100, 100, 100, 900, 766]], 101.0),  # the fifth run was interrupted: 100, 4100, 96 after the warm-up
    ],
)
def test_openvinos_running_averages_become_the_time_of_a_run(blocks: list[list[int]], expected_us: float) -> None:
    assert typical_s(blocks) * 1e6 == pytest.approx(expected_us)


def _event(index: str, name: str, ts: int, dur: int, made: str = "float") -> dict[str, object]:
    told = {
        "node_index": index,
        "op_name": name.rstrip("0123456789"),
        "input_type_shape": [{made: [1, 8]}],
        "output_type_shape": [{made: [1, 4]}],
    }
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": told}


def test_onnxruntimes_events_become_medians_without_the_warm_up() -> None:
    events = [_event("0", "MatMul1", 10 * run, dur) for run, dur in enumerate([900, 30, 10, 20])]
    events += [_event("1", "Relu2", 10 * run + 5, 3, "uint8") for run in range(4)]
    events.append({"cat": "Session", "name": "model_run", "ts": 0, "dur": 1000, "args": {}})
    product, relu = read_profile(events, warmup=1, runs=3, constants={"MatMul1": [None, (8, 4)]})
    assert (product.name, product.operator, product.precision) == ("MatMul1", "MatMul", "fp32")
    assert product.time_s == pytest.approx(20e-6)
    assert product.inputs == ((1, 8), (8, 4))
    assert (relu.precision, relu.time_s) == ("int8", pytest.approx(3e-6))


def test_a_kernel_in_a_loop_is_summed_over_a_call() -> None:
    events = [_event("0", "Add1", step, 2) for step in range(12)]
    [layer] = read_profile(events, warmup=1, runs=3, constants={})
    assert layer.time_s == pytest.approx(6e-6)


def test_what_the_profiler_itself_takes_is_taken_off() -> None:
    layers = tuple(LayerTime(name, name, "fp32", time_s) for name, time_s in (("Conv", 50e-6), ("Reshape", 3e-6)))
    assert idle_s(layers) == 3e-6 and idle_s(layers[:1]) == 0.0
    assert [layer.time_s for layer in without_profiler(layers, 60e-6, 3e-6)] == pytest.approx([47e-6, 0.0])
    assert [layer.time_s for layer in without_profiler(layers, 43e-6, 3e-6)] == pytest.approx([45e-6, 0.0])
    assert [layer.time_s for layer in without_profiler(layers, 49e-6)] == pytest.approx([48e-6, 1e-6])
    assert without_profiler(layers, 60e-6) == layers
    assert without_profiler((), 1.0) == ()


@pytest.mark.parametrize(
    ("operator", "precision"),
    [
        ("QLinearConv", "int8"),
        ("QGemm", "int8"),
        ("MatMulIntegerToFloat", "int8"),
        ("DynamicQuantizeMatMul", "int8"),
        ("DynamicQuantizeLSTM", "int8"),
        ("QuantizeLinear", "convert"),
        ("DynamicQuantizeLinear", "convert"),
        ("DequantizeLinear", "convert"),
        ("Conv", "fp32"),
    ],
)
def test_kernels_tell_their_precision_by_name(operator: str, precision: str) -> None:
    assert kernel_precision(operator) == precision


def test_a_call_that_waits_for_a_core_counts_only_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds of wall time of which the process had one."""
    wall, cpu = iter(range(0, 1000, 10)), iter(range(1000))
    monkeypatch.setattr("targets.base.time.perf_counter", lambda: float(next(wall)))
    monkeypatch.setattr("targets.base.time.process_time", lambda: float(next(cpu)))

    class Idle:
        def run(self, inputs: object) -> Arrays:
            return {"y": np.zeros(1)}

        def __enter__(self) -> Session:
            return self  # type: ignore[return-value]

        def __exit__(self, *_: object) -> None:
            return None

    assert median_call_s(Idle(), {}, runs=3) == 1.0  # type: ignore[arg-type]
