"""What OpenVINO's model cache saves: `python -m benchmarks.studies.model_cache`, on a network of ResNet-50's size.

Each load is in a fresh process; without the cache, the load that fills it, and those that find it filled.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from export.model import OnnxModel
from targets import FP32
from targets.openvino import OpenVino

BLOCKS, WIDTHS, SIDE = (3, 4, 6, 3), (64, 128, 256, 512), 224
"""ResNet-50: bottlenecks a stage and their inner widths (arXiv:1512.03385, table 1). 25 million weights, random here."""
LOADS = 7

_LOAD = """
import json, sys, time
from pathlib import Path
from targets import Engine, target_class
import openvino
folder = Path(sys.argv[1])
engine, target = Engine.from_json(json.loads((folder / "engine.json").read_text()), folder), target_class("openvino")()
start = time.perf_counter()
target.load(engine, threads=1)
print(time.perf_counter() - start)
"""


class _Network:
    """Nodes and weights of a network under construction; `int8` puts Q/DQ around every convolution."""

    def __init__(self, int8: bool) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._int8, self._random = int8, np.random.default_rng(0)

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        output = f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], output, **attributes))
        return output

    def weight(self, array: np.ndarray | np.generic) -> str:
        from onnx import numpy_helper

        name = f"weight{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def conv(self, held: str, inputs: int, outputs: int, side: int, stride: int = 1) -> str:
        kernel = self._random.normal(0, (2 / (inputs * side * side)) ** 0.5, (outputs, inputs, side, side))
        if not self._int8:
            weights = self.weight(kernel.astype(np.float32))
        else:
            scale = np.abs(kernel).max((1, 2, 3)) / 127
            eight_bits = self.weight(np.round(kernel / scale[:, None, None, None]).astype(np.int8))
            scales, zeros = self.weight(scale.astype(np.float32)), self.weight(np.zeros(outputs, np.int8))
            weights = self.node("DequantizeLinear", eight_bits, scales, zeros, axis=0)
            steps = self.weight(np.float32(0.05)), self.weight(np.uint8(128 if held == "image" else 0))
            held = self.node("DequantizeLinear", self.node("QuantizeLinear", held, *steps), *steps)
        return self.node("Conv", held, weights, strides=[stride] * 2, pads=[side // 2] * 4)


def resnet50_size(path: Path, int8: bool) -> OnnxModel:
    """An ONNX file of ResNet-50's layers with random weights."""
    import onnx
    from onnx import TensorProto, helper

    network = _Network(int8)
    held = network.node("Relu", network.conv("image", 3, 64, 7, 2))
    held, inputs = network.node("MaxPool", held, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4), 64
    for stage, (blocks, width) in enumerate(zip(BLOCKS, WIDTHS, strict=True)):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            inner = network.node("Relu", network.conv(held, inputs, width, 1))
            inner = network.node("Relu", network.conv(inner, width, width, 3, stride))
            inner = network.conv(inner, width, 4 * width, 1)
            shortcut = held if block else network.conv(held, inputs, 4 * width, 1, stride)
            held, inputs = network.node("Relu", network.node("Add", inner, shortcut)), 4 * width
    held = network.node("Flatten", network.node("GlobalAveragePool", held))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])
    features = helper.make_tensor_value_info(held, TensorProto.FLOAT, ["batch", inputs])
    graph = helper.make_graph(network.nodes, "bottlenecks", [image], [features], network.weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return OnnxModel.read(path)


def loads_s(model: OnnxModel, target: OpenVino, folder: Path) -> list[float]:
    """Seconds of each load, the first of which fills the cache."""
    folder.mkdir()
    engine = target.compile(model, FP32, folder)
    (folder / "engine.json").write_text(json.dumps(engine.to_json(folder)))
    environment = os.environ | {"COMPRESS_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _LOAD, str(folder)]
    return [
        float(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)
        for _ in range(LOADS + 1)
    ]


def main() -> None:
    """Print the table."""
    print(f"{'ms, medians':24} {'no cache':>9} {'filling':>9} {'filled':>9} {'saves':>7}")
    for name, shapes in product(("FP32", "INT8"), ({}, {"batch": 1})):
        with tempfile.TemporaryDirectory(prefix="compress-") as scratch:
            model = resnet50_size(Path(scratch) / "model.onnx", name == "INT8")
            without = median(loads_s(model, OpenVino(shapes=shapes), Path(scratch) / "without"))
            filling, *filled = loads_s(model, OpenVino(cache=True, shapes=shapes), Path(scratch) / "with")
        row = f"{name}, {'fixed' if shapes else 'any'} batch"
        ratio = f"{without / median(filled):.1f}x"
        print(f"{row:24} {without * 1e3:9.0f} {filling * 1e3:9.0f} {median(filled) * 1e3:9.0f} {ratio:>7}", flush=True)


if __name__ == "__main__":
    main()
