"""What ONNX Runtime tells of a session: the precision of each kernel, and its time from the session's profile."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Optional

import numpy as np

from targets.base import LayerTime

WARMUP = 5
_SUFFIX = "_kernel_time"
_IDLE = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")
_TYPES = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "uint8": "int8", "int8": "int8"}

Shape = tuple[int, ...]
Constants = Mapping[str, Sequence[Optional[Shape]]]
"""For each node of the optimised graph by its name: the shape of each input that is a constant, None for the others."""


def layer_times(
    session: Any, inputs: Mapping[str, np.ndarray], runs: int, constants: Constants
) -> tuple[LayerTime, ...]:
    """The median time of each kernel over `runs`, in the order of execution; ends the session's profiling.

    Args:
        session: one with profiling on, which has not run yet.
    """
    for _ in range(WARMUP + runs):
        session.run(None, dict(inputs))
    events = json.loads(Path(session.end_profiling()).read_text())
    return read_profile(events, WARMUP, runs, constants)


def read_profile(
    events: Sequence[Mapping[str, Any]], warmup: int, runs: int, constants: Constants
) -> tuple[LayerTime, ...]:
    """A LayerTime for each kernel of the profile's events; the first `warmup` inferences do not count.

    A kernel inside a loop runs several times an inference: their sum is its time.
    """
    kernels: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for event in sorted(events, key=lambda event: event["ts"]):
        if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX):
            kernels.setdefault((event["args"]["node_index"], event["name"]), []).append(event)
    layers = []
    for (_, name), calls in kernels.items():
        passes = max(1, len(calls) // (warmup + runs))
        kept = [call["dur"] for call in calls[warmup * passes :]] or [call["dur"] for call in calls]
        sums = [sum(kept[start : start + passes]) for start in range(0, len(kept), passes)]
        layers.append(_layer(name.removesuffix(_SUFFIX), calls[-1]["args"], 1e-6 * median(sums), constants))
    return tuple(layers)


def idle_s(layers: Sequence[LayerTime]) -> float:
    """What the profiler takes of each kernel: it writes shapes down before it stops the clock, and a kernel that only
    renames its input shows that."""
    return min((layer.time_s for layer in layers if layer.operator in _IDLE), default=0.0)


def constant_shapes(optimised: Path) -> Constants:
    """Shapes of the constants of an optimised graph: a profile is silent on weights that were packed at loading."""
    import onnx

    graph = onnx.load(optimised).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    return {node.name: [shapes.get(name) for name in node.input if name] for node in graph.node}


def kernel_precision(operator: str) -> str:
    """Integer kernels tell by their names: QLinearConv, QGemm, MatMulIntegerToFloat, DynamicQuantizeMatMul."""
    if re.match(r"Q(?!uantizeLinear)[A-Z]|.*Integer|Dynamic\w*Quantize(?!Linear)", operator):
        return "int8"
    return "convert" if operator.endswith("QuantizeLinear") or operator == "DequantizeLinear" else "fp32"


def _layer(name: str, told: Mapping[str, Any], time_s: float, constants: Constants) -> LayerTime:
    seen = [_shape(entry) for entry in told["input_type_shape"]]
    return LayerTime(
        name=name,
        operator=told["op_name"],
        precision=_precision(told),
        time_s=time_s,
        inputs=_with_packed(seen, constants.get(name, ())),
        outputs=tuple(_shape(entry) for entry in told["output_type_shape"]),
    )


def _precision(told: Mapping[str, Any]) -> str:
    """Of the kernel where its name tells, else of what it makes."""
    kernel = kernel_precision(told["op_name"])
    if kernel != "fp32":
        return "int8" if kernel == "int8" else "other"
    made = [next(iter(entry)) for entry in told["output_type_shape"]]
    return _TYPES.get(made[0], "other") if made else "other"


def _with_packed(seen: Sequence[Shape], constants: Sequence[Shape | None]) -> tuple[Shape, ...]:
    """The shapes that the profile tells, with those of packed weights put back in their places."""
    left, shapes, packed = list(seen), [], len(constants) - len(seen)
    for constant in constants:
        if constant is not None and packed > 0 and (not left or left[0] != constant):
            shapes.append(constant)
            packed -= 1
        elif left:
            shapes.append(left.pop(0))
    return (*shapes, *left)


def _shape(entry: Mapping[str, Sequence[int]]) -> Shape:
    return tuple(next(iter(entry.values()), ()))
