"""Small networks in ONNX, with Q/DQ nodes or without, and what a call of each takes on OpenVINO: for the studies beside."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

CALLS, WARMUP = 300, 30


@dataclass
class Drawing:
    """A network node by node; names are those of the tensors.

    Args:
        int8: whether what is multiplied is in 8 bits.
    """

    int8: bool
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def constant(self, name: str, array: np.ndarray | np.generic) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def add(self, operator: str, output: str, *inputs: str, **attributes: Any) -> str:
        """A node, by the name of its output."""
        from onnx import helper

        self.nodes.append(helper.make_node(operator, list(inputs), [output], output, **attributes))
        return output

    def eight_bits(self, held: str) -> str:
        """The tensor rounded to 8 bits, where this network has them."""
        if not self.int8:
            return held
        steps = self.constant(f"{held}-scale", np.float32(0.02)), self.constant(f"{held}-zero", np.uint8(0))
        return self.add("DequantizeLinear", f"{held}-dq", self.add("QuantizeLinear", f"{held}-q", held, *steps), *steps)

    def weights(self, name: str, shape: Sequence[int]) -> str:
        """Random ones, in 8 bits where this network has them."""
        integers = self.random.integers(-63, 64, shape).astype(np.int8)
        if not self.int8:
            return self.constant(f"{name}-w", integers.astype(np.float32) / 256)
        steps = self.constant(f"{name}-scale", np.float32(1 / 256)), self.constant(f"{name}-zero", np.int8(0))
        return self.add("DequantizeLinear", f"{name}-dq", self.constant(f"{name}-w", integers), *steps)

    def convolution(self, name: str, held: str, inputs: int, outputs: int) -> str:
        """1x1."""
        return self.add("Conv", name, self.eight_bits(held), self.weights(name, (outputs, inputs, 1, 1)))

    def linear(self, name: str, held: str, inputs: int, outputs: int) -> str:
        return self.add("MatMul", name, self.eight_bits(held), self.weights(name, (inputs, outputs)))

    def save(self, path: Path, image: Sequence[int], answer: str, shape: Sequence[int]) -> None:
        """Write the file; `image` and `shape` are those of one sample, the batch is open."""
        import onnx
        from onnx import TensorProto, helper

        given, made = (
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *sizes])
            for name, sizes in (("image", image), (answer, shape))
        )
        graph = helper.make_graph(self.nodes, "drawing", [given], [made], self.constants)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def medians_us(requests: Mapping[str, Any], image: np.ndarray) -> dict[str, float]:
    """Median time of a call of each, in microseconds; they take turns."""
    taken: dict[str, list[float]] = {name: [] for name in requests}
    for call in range(CALLS + WARMUP):
        for name, request in requests.items():
            begun = time.perf_counter()
            request.infer({0: image})
            if call >= WARMUP:
                taken[name].append(time.perf_counter() - begun)
    return {name: 1e6 * float(np.median(times)) for name, times in taken.items()}
