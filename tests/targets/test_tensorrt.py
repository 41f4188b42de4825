"""TensorRT: engines are built without a GPU, by the provider that the recipe names."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import targets
from compress.quantize.model import quantize_model
from export.errors import EnvironmentFailure, UnsupportedError
from export.model import OnnxModel
from targets import cuda
from targets.base import FP32
from targets.tensorrt import TensorRt
from targets.tensorrt.builder import BuildSettings, build_plan
from tests.targets import networks
from tests.targets.fake_gpu import FakeTensorRt, driver, engine_of, install

__all__ = ["driver"]

TARGET = TensorRt(provider="tensorrt-rtx")
available = pytest.mark.skipif(bool(TARGET.unavailable()), reason=str(TARGET.unavailable()))
FOLDER = Path(targets.__file__).parent
MAKING = ("precision.py", "rules.py")
ON_DEVICES = (FOLDER / "cuda.py", *(file for file in FOLDER.glob("tensorrt/*.py") if file.name not in MAKING))


@available
@pytest.mark.parametrize("capability", ["8.6", "8.9"])
@pytest.mark.parametrize("name", ["fp16", "bf16", "int8", "fp32"])
def test_engines_for_gpus_that_are_not_here(name: str, capability: str, tmp_path: Path) -> None:
    target = TensorRt(provider="tensorrt-rtx", compute_capabilities=(capability,), axes={"batch": (1, 2, 4)})
    scheme = next(scheme for scheme in target.schemes() if scheme.name == name)
    model = networks.convolutional(tmp_path / "in.onnx")
    if scheme.quantizer != "none":
        model = quantize_model(model, [networks.images(16)], scheme, tmp_path / "quantized.onnx")
    engine = target.compile(model, scheme, tmp_path)
    settings = engine.settings
    assert (settings["provider"], settings["compute_capabilities"]) == ("tensorrt_rtx", [capability])
    assert settings["profile"] == {"image": [[1, 3, 12, 12], [2, 3, 12, 12], [4, 3, 12, 12]]}
    assert (settings["workspace_mb"], settings["typing"]) == (1024, "strong")
    assert len(settings["sha256"]) == len(settings["source_sha256"]) == 64
    if reason := cuda.no_gpu():
        assert settings["layers_unknown"] == f"the engine inspector needs the GPU: {reason}"
    assert (tmp_path / "model.onnx").exists()


def test_without_a_gpu_loading_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("targets.cuda.no_gpu", lambda: "no NVIDIA GPU on this machine")
    monkeypatch.setattr(TensorRt, "unavailable", lambda self: None)
    with pytest.raises(EnvironmentFailure, match=r"model\.engine: no NVIDIA GPU on this machine"):
        TensorRt().load(engine_of(tmp_path), threads=1)


@available
def test_a_profile_that_does_not_fit_is_refused_with_the_builders_reason(tmp_path: Path) -> None:
    """A batch of 5 cannot be reshaped to (1, ...): the parser or builder says why."""
    model = networks.convolutional(tmp_path / "in.onnx")
    proto = model.proto()
    flatten = next(node for node in proto.graph.node if node.op_type == "Flatten")
    flatten.op_type, flatten.input[:] = "Reshape", ["mean", "shape"]
    del flatten.attribute[:]
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([3, 16], np.int64), "shape"))
    onnx.save(proto, model.path)
    with pytest.raises(UnsupportedError, match=r"tensorrt, scheme 'fp32': "):
        TARGET.compile(model, FP32, tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"compute_capabilities": ("8.6", "9.9")}, r"compute_capabilities: found 9\.9, allowed: one or more of 7\.5"),
        ({"compute_capabilities": ()}, r"compute_capabilities: found none"),
        ({"workspace_mb": 0}, r"workspace_mb: found 0, allowed: 1 or more"),
        ({"axes": {"batch": (4, 1, 32)}}, r"axes\.batch: found \[4, 1, 32\], allowed: \[smallest, usual, largest\]"),
        ({"other_axes": (0, 1, 2)}, r"other_axes: found \[0, 1, 2\]"),
    ],
)
def test_impossible_fields_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TensorRt(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("provider", "installed", "gpu", "reason"),
    [
        ("auto", ("tensorrt", "tensorrt_rtx"), True, None),
        ("auto", ("tensorrt_rtx",), False, None),
        ("auto", ("tensorrt",), False, r"neither tensorrt \(with a GPU\) nor tensorrt-rtx found; pip install"),
        ("tensorrt", ("tensorrt",), True, None),
        ("tensorrt", ("tensorrt_rtx",), True, r"provider tensorrt is not installed; pip install tensorrt-cu12"),
        (
            "tensorrt",
            ("tensorrt", "tensorrt_rtx"),
            False,
            r"provider tensorrt builds beside a GPU alone: no GPU; name provider: tensorrt-rtx to build ahead",
        ),
        ("tensorrt-rtx", ("tensorrt", "tensorrt_rtx"), True, None),
        ("tensorrt-rtx", ("tensorrt",), True, r"provider tensorrt-rtx is not installed; pip install 'edge-compress"),
    ],
)
def test_a_provider_is_taken_or_refused_with_what_to_do(
    provider: Any, installed: tuple[str, ...], gpu: bool, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("targets.tensorrt.find_spec", lambda name: name if name in installed else None)
    monkeypatch.setattr("targets.cuda.no_gpu", lambda: None if gpu else "no GPU")
    found = TensorRt(provider=provider).unavailable()
    assert found is None if reason is None else re.match(reason, found or "")


def test_auto_takes_the_full_tensorrt_beside_a_gpu(
    driver: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It builds for the GPU here whatever the recipe names, and its inspector tells the layers."""
    trt = FakeTensorRt(driver)
    trt.layers = [
        {"Name": "conv1", "LayerType": "CaskConvolution", "Outputs": [{"Format/Datatype": "Int8", "Dimensions": [1]}]},
        {"Name": "conv2", "LayerType": "CaskConvolution", "Outputs": [{"Format/Datatype": "FP16", "Dimensions": [1]}]},
        "reshape",
    ]
    install(monkeypatch, trt)
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    engine = TensorRt().compile(networks.convolutional(tmp_path / "in.onnx"), FP32, tmp_path)
    assert (engine.settings["provider"], engine.settings["compute_capabilities"]) == ("tensorrt", ["8.9"])
    assert engine.operators == {"int8": 1, "fp16": 1, "other": 1}
    assert [layer["name"] for layer in engine.settings["layers"]] == ["conv1", "conv2", "reshape"]
    assert engine.settings["layers_unknown"] == ""


def test_bf16_takes_a_gpu_that_has_it(driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def names(target: TensorRt) -> list[str]:
        return [scheme.name for scheme in target.schemes()]

    assert "bf16" in names(TensorRt(provider="tensorrt-rtx", compute_capabilities=("8.0", "12.0")))
    assert "bf16" not in names(TensorRt(provider="tensorrt-rtx", compute_capabilities=("7.5", "8.9")))
    install(monkeypatch, FakeTensorRt(driver))
    assert "bf16" in names(TensorRt())
    driver.fake_capability(7, 2)
    assert "bf16" not in names(TensorRt())


def test_timings_of_one_build_serve_the_next_on_that_gpu(
    driver: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = FakeTensorRt(driver)
    install(monkeypatch, trt)
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    model = networks.convolutional(tmp_path / "in.onnx")
    for told, cache, capability in (
        ("timings new", True, (8, 9)),
        ("timings new+conv", True, (8, 9)),
        ("timings new", False, (8, 9)),
        ("timings new", True, (8, 7)),
        ("timings new+conv+conv", True, (8, 9)),
    ):
        trt.log.clear()
        driver.fake_capability(*capability)
        TensorRt(cache=cache).compile(model, FP32, tmp_path)
        assert trt.log[:2] == [told, "build"]


def test_timings_that_tensorrt_refuses_are_left(driver: Any) -> None:
    trt = FakeTensorRt(driver)
    assert build_plan(trt, b"model", BuildSettings(), b"other GPU").timings == b"new+conv"


@pytest.mark.parametrize("file", ON_DEVICES, ids=lambda file: file.name)
def test_what_loads_an_engine_asks_for_no_other_package(file: Path) -> None:
    """Not even within a function: what a device does not have it must not come upon."""
    imports = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in imports if isinstance(node, ast.ImportFrom)}
    other = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"numpy", "export", "targets"}
    assert other == set()


@pytest.mark.parametrize("file", ON_DEVICES, ids=lambda file: file.name)
def test_what_a_device_needs_is_python_3_9(file: Path) -> None:
    """Its syntax, and none of the newer names that these files might take from the standard library."""
    tree = ast.parse(file.read_text(), feature_version=(3, 9))
    at_import = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert not any(alias.name in ("Self", "assert_never", "override") for node in at_import for alias in node.names)
    keywords = [word.arg for node in ast.walk(tree) if isinstance(node, ast.Call) for word in node.keywords]
    assert not {"slots", "kw_only"} & set(keywords)
    strict = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "zip" and node.keywords
    ]
    assert strict == []
    assert not any(isinstance(node, ast.Match) for node in ast.walk(tree))


@available
def test_a_decoder_is_built_from_no_cache_on(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    cached = helper.make_tensor_value_info("past_key.0", TensorProto.FLOAT, ["batch", 2, "past", 4])
    new = helper.make_tensor_value_info("key", TensorProto.FLOAT, ["batch", 2, "length", 4])
    every = helper.make_tensor_value_info("present_key.0", TensorProto.FLOAT, ["batch", 2, "past + length", 4])
    node = helper.make_node("Concat", ["past_key.0", "key"], ["present_key.0"], axis=2)
    graph = helper.make_graph([node], "decoder", [cached, new], [every])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "in.onnx")
    engine = TARGET.compile(OnnxModel.read(tmp_path / "in.onnx"), FP32, tmp_path)
    assert engine.settings["profile"]["past_key.0"] == [[1, 2, 0, 4], [1, 2, 64, 4], [32, 2, 128, 4]]
    assert engine.settings["profile"]["key"] == [[1, 2, 1, 4], [1, 2, 64, 4], [32, 2, 128, 4]]


def test_a_cache_may_be_empty_and_no_other_axis() -> None:
    assert TensorRt(axes={"past": (0, 64, 576)}).axes["past"] == (0, 64, 576)
    with pytest.raises(ValueError, match=r"axes\.length: found \[0, 64, 576\], allowed: .* rising, from 1"):
        TensorRt(axes={"length": (0, 64, 576)})
    with pytest.raises(ValueError, match=r"axes\.past: found \[0, 0, 576\], allowed: .* rising, from 0"):
        TensorRt(axes={"past": (0, 0, 576)})
