"""INT8 max pools over whole AVX2 registers: the same answers, and which pools are left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.quantize.model import quantize_model
from export.model import OnnxModel
from targets.base import FP32, Scheme
from targets.openvino import OpenVino
from targets.openvino.max_pools import fill_registers

TARGET = OpenVino()
pytestmark = pytest.mark.skipif(bool(TARGET.unavailable()), reason=str(TARGET.unavailable()))

IMAGES = np.random.default_rng(0).standard_normal((16, 3, 12, 12)).astype(np.float32)
SCHEMES = ("int8", "int8-nncf")


def pooled(path: Path, channels: int, activation: str | None = "Relu") -> OnnxModel:
    """Two branches of convolutions, concatenated; a pool with overlaps, one behind it, and a convolution."""
    generator = np.random.default_rng(1)

    def weights(name: str, outputs: int, inputs: int, kernel: int) -> TensorProto:
        values = generator.standard_normal((outputs, inputs, kernel, kernel)) / (kernel * np.sqrt(inputs))
        return numpy_helper.from_array(values.astype(np.float32), name)

    initializers = [weights("w0", 24, 3, 3), weights("w1", channels - 24, 3, 1), weights("w2", 8, channels, 1)]
    nodes = []
    for branch, kernel in (("0", 3), ("1", 1)):
        nodes.append(
            helper.make_node(
                "Conv", ["x", f"w{branch}"], [f"c{branch}"], kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4
            )
        )
        nodes.append(helper.make_node(activation or "Identity", [f"c{branch}"], [f"a{branch}"]))
    nodes.append(helper.make_node("Concat", ["a0", "a1"], ["both"], axis=1))
    nodes.append(helper.make_node("MaxPool", ["both"], ["p0"], kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1]))
    nodes.append(helper.make_node("MaxPool", ["p0"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]))
    nodes.append(helper.make_node("Conv", ["p1", "w2"], ["y"], kernel_shape=[1, 1]))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 12, 12])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8, 6, 6])]
    graph = helper.make_graph(nodes, "pooled", inputs, outputs, initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return OnnxModel.read(path)


def scheme_of(name: str) -> Scheme:
    return next(scheme for scheme in TARGET.schemes() if scheme.name == name)


def compiled(
    model: OnnxModel,
    scheme: Scheme,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    features: set[str],
    device: str = "CPU",
) -> tuple[str, np.ndarray]:
    """The IR as compiled where a CPU has these instruction sets, and what it answers here."""
    monkeypatch.setattr("targets.openvino.instruction_sets", lambda: frozenset(features))
    folder.mkdir()
    target = OpenVino(device=device)
    engine = target.compile(model, scheme, folder)
    with target.load(engine, threads=1) as session:
        answer = session.run({"x": IMAGES})["y"].copy()
    return engine.path.read_text(), answer


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize(("channels", "filled"), [(40, 2), (64, 0), (30, 0)])
def test_answers_stay_and_only_short_registers_are_filled(
    name: str, channels: int, filled: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheme = scheme_of(name)
    model = pooled(tmp_path / "model.onnx", channels)
    quantized = quantize_model(model, [{"x": IMAGES}], scheme, tmp_path / "quantized.onnx")
    plain, expected = compiled(quantized, scheme, tmp_path / "plain", monkeypatch, {"avx2", "avx512f"})
    changed, found = compiled(quantized, scheme, tmp_path / "changed", monkeypatch, {"avx2"})
    assert (plain.count('type="Pad"'), changed.count('type="Pad"')) == (0, filled)
    np.testing.assert_array_equal(found, expected)


def test_float_pools_and_other_devices_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = pooled(tmp_path / "model.onnx", 40)
    scheme = scheme_of("int8")
    quantized = quantize_model(model, [{"x": IMAGES}], scheme, tmp_path / "quantized.onnx")
    for case, (network, by, device) in enumerate(
        ((model, FP32, "CPU"), (model, scheme, "CPU"), (quantized, scheme, "AUTO:CPU"))
    ):
        text, _ = compiled(network, by, tmp_path / str(case), monkeypatch, {"avx2"}, device)
        assert 'type="Pad"' not in text


def test_a_zero_point_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ReLU 8 bits begin below 0."""
    scheme = scheme_of("int8")
    model = pooled(tmp_path / "model.onnx", 40, activation=None)
    quantized = quantize_model(model, [{"x": IMAGES}], scheme, tmp_path / "quantized.onnx")
    text, _ = compiled(quantized, scheme, tmp_path / "compiled", monkeypatch, {"avx2"})
    assert 'type="Pad"' not in text


@pytest.mark.parametrize(("ends", "filled"), [("relu", 1), ("pool", 0), ("places", 0)])
def test_what_leaves_the_network_is_not_cut_out_of_something_larger(ends: str, filled: int) -> None:
    openvino = pytest.importorskip("openvino")
    operators = openvino.opset13
    image = operators.parameter([-1, 40, 8, 8], np.uint8)
    floats = operators.multiply(operators.convert(image, "f32"), np.float32(0.1))
    pool = operators.max_pool(floats, [1, 1], [1, 1], [0, 0], [0, 0], [3, 3])
    outputs = {"relu": [operators.relu(pool.output(0)).output(0)], "pool": [pool.output(0)]}
    outputs["places"] = [*outputs["relu"], pool.output(1)]
    assert fill_registers(openvino.Model(outputs[ends], [image])) == filled
