"""Small ONNX models for the studies: a stack of convolutions of about a millisecond, made here, nothing to download."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from export.model import OnnxModel
from targets import FP32, Engine, target_class

CHANNELS, SIDE, LAYERS = 64, 28, 3
"""About 59 million multiply-accumulates: 1.2 ms on one core with AVX2, 0.5 ms with AVX-512."""


def conv_model(path: Path, layers: int = LAYERS) -> OnnxModel:
    """`layers` 3x3 convolutions of CHANNELS with ReLU on a colour image of SIDE x SIDE, then the mean over positions."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    nodes, weights, held = [], [], "image"
    for layer in range(layers):
        channels = CHANNELS if layer else 3
        kernel = random.normal(0, 1 / np.sqrt(9 * channels), (CHANNELS, channels, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"kernel{layer}"))
        nodes.append(helper.make_node("Conv", [held, f"kernel{layer}"], [f"conv{layer}"], f"conv{layer}", pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"conv{layer}"], [f"relu{layer}"], f"relu{layer}"))
        held = f"relu{layer}"
    nodes.append(helper.make_node("GlobalAveragePool", [held], ["mean"], "mean"))
    nodes.append(helper.make_node("Flatten", ["mean"], ["features"], "features"))
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, CHANNELS])],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return OnnxModel.read(path)


def conv_inputs(distinct: int = 8) -> list[Mapping[str, np.ndarray]]:
    """A pool of images for `conv_model`."""
    random = np.random.default_rng(1)
    return [{"image": random.normal(size=(1, 3, SIDE, SIDE)).astype(np.float32)} for _ in range(distinct)]


def engine_on(target: str, model: OnnxModel, folder: Path) -> Engine:
    """`model` compiled in FP32 by the target of that name."""
    folder.mkdir(parents=True, exist_ok=True)
    runtime: Any = target_class(target)()
    compiled: Engine = runtime.compile(model, FP32, folder)
    return compiled
