"""What a max pool of 8-bit data costs OpenVINO at widths that fill no whole register: `python -m benchmarks.studies.max_pools`.

A 1x1 convolution from 32 channels, a 3x3 max pool of stride 1 and a 1x1 convolution back, on 16x16 pixels. Times are medians
of whole calls, of one thread; the forms of a network take turns.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serve import pin
from targets.isa import instruction_sets
from targets.openvino.max_pools import REGISTER, fill_registers

WIDTHS = (24, 32, 40, 48, 56, 64, 80, 96, 104, 120, 128)
OUTER, SIDE = 32, 16
CALLS, WARMUP = 300, 30


def network(path: Path, channels: int, int8: bool) -> None:
    """Write convolution, pool and convolution as ONNX, with Q/DQ around both convolutions where `int8` says so."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random, constants, nodes = np.random.default_rng(0), list[Any](), list[Any]()

    def constant(name: str, array: np.ndarray | np.generic) -> str:
        constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def add(operator: str, output: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, list(inputs), [output], output, **attributes))
        return output

    def eight_bits(held: str) -> str:
        steps = constant(f"{held}-scale", np.float32(0.02)), constant(f"{held}-zero", np.uint8(0))
        return add("DequantizeLinear", f"{held}-dq", add("QuantizeLinear", f"{held}-q", held, *steps), *steps)

    def convolution(name: str, held: str, inputs: int, outputs: int) -> str:
        integers = random.integers(-63, 64, (outputs, inputs, 1, 1)).astype(np.int8)
        if not int8:
            return add("Conv", name, held, constant(f"{name}-w", integers.astype(np.float32) / 256))
        scale, zero = constant(f"{name}-scale", np.float32(1 / 256)), constant(f"{name}-zero", np.int8(0))
        weights = add("DequantizeLinear", f"{name}-dq", constant(f"{name}-w", integers), scale, zero)
        return add("Conv", name, eight_bits(held), weights)

    inner = add("Relu", "relu", convolution("first", "image", OUTER, channels))
    inner = eight_bits(inner) if int8 else inner
    pooled = add("MaxPool", "pooled", inner, kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4)
    answer = convolution("second", pooled, channels, OUTER)
    image, features = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", OUTER, SIDE, SIDE])
        for name in ("image", answer)
    )
    graph = helper.make_graph(nodes, "pooled", [image], [features], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def medians_us(requests: dict[str, Any]) -> dict[str, float]:
    """Median time of a call of each, in microseconds."""
    image = np.random.default_rng(1).random((1, OUTER, SIDE, SIDE), dtype=np.float32)
    taken: dict[str, list[float]] = {name: [] for name in requests}
    for call in range(CALLS + WARMUP):
        for name, request in requests.items():
            begun = time.perf_counter()
            request.infer({0: image})
            if call >= WARMUP:
                taken[name].append(time.perf_counter() - begun)
    return {name: 1e6 * float(np.median(times)) for name, times in taken.items()}


def main() -> None:
    """Print the table."""
    import openvino

    pin(1)
    core, settings = openvino.Core(), {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    print(f"instruction sets: {', '.join(sorted(instruction_sets())) or 'unknown'}")
    print(f"{'channels':>8} {'FP32, us':>10} {'INT8':>8} {'INT8 over whole registers':>26}")
    for channels in WIDTHS:
        requests = {}
        for name in ("FP32", "INT8", "filled"):
            with tempfile.TemporaryDirectory(prefix="compress-") as folder:
                path = Path(folder) / "model.onnx"
                network(path, channels, int8=name != "FP32")
                model = core.read_model(path)
            filled = fill_registers(model) if name == "filled" else 0
            if name != "filled" or filled:
                requests[name] = core.compile_model(model, "CPU", settings).create_infer_request()
        found = medians_us(requests)
        told = f"{found['filled']:.0f}" if "filled" in found else f"fills them, or has at most {REGISTER}"
        print(f"{channels:8} {found['FP32']:10.0f} {found['INT8']:8.0f} {told:>26}", flush=True)


if __name__ == "__main__":
    main()
