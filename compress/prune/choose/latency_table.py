"""What a convolution or linear layer takes at certain widths on a runtime: measured once, remembered in a file.

In FP32, or quantized by the scheme that is to ship.

Operators are measured as small ONNX models of many operators side by side, each with an input of its own, by the
runtime's own profiler: it tells each operator's time without what a call costs besides.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.machine import fingerprint, library_versions
from benchmarks.profile import profile_of
from benchmarks.report import write_text_whole
from compress.prune.products import Product, Window
from compress.quantize.model import quantize_as_it_is
from compress.run_directory import fields_of
from export.model import OnnxModel
from export.progress import Track, silent
from targets import FP32, LayerTime, Scheme, Target

if TYPE_CHECKING:
    import onnx

CACHE_VARIABLE = "COMPRESS_CACHE"
TOGETHER = 24
"""Operators of one small model."""
TOGETHER_BYTES = 256 << 20
"""Of the inputs and weights of one small model."""
RUNS = 40
_PRODUCTS = ("conv", "gemm", "matmul", "fullyconnected", "gemv", "innerproduct")
"""Parts of the names by which runtimes call the kernels that multiply by weights."""


@dataclass(frozen=True)
class Operator:
    """A weighted operator at certain widths.

    Args:
        inputs, outputs: channels or features.
        extent: the other axes of what it reads: (batch, height, width) of a convolution, (rows,) of a linear layer.
        window: of a convolution.
    """

    inputs: int
    outputs: int
    extent: tuple[int, ...]
    window: Window | None

    @staticmethod
    def at(product: Product, inputs: int, outputs: int) -> Operator:
        """The operator of a product at other widths. With groups the inputs follow the outputs; a filter for each
        channel leaves as many groups as channels."""
        batch, _, *space = product.activations if len(product.activations) > 1 else (1, *product.activations)
        window = product.window
        if window is not None and window.groups > 1:
            if window.groups == product.inputs:
                window = replace(window, groups=max(1, outputs * product.inputs // product.outputs))
            inputs = max(1, outputs * product.inputs // product.outputs // window.groups) * window.groups
            outputs = max(1, outputs // window.groups) * window.groups
        return Operator(inputs, outputs, (batch, *space), window)

    @property
    def key(self) -> str:
        """The same for equal operators, in every process."""
        return json.dumps(asdict(self))

    @property
    def size_bytes(self) -> int:
        kernel = self.window.kernel if self.window else ()
        return 4 * self.inputs * (math.prod(self.extent) + self.outputs * math.prod(kernel))


class LatencyTable:
    """Seconds of operators on one target; what has been measured is kept for the next run on this machine."""

    def __init__(self, target: Target, threads: int, track: Track = silent, scheme: Scheme = FP32) -> None:
        self._target, self._threads, self._track, self._scheme = target, threads, track, scheme
        self._conditions = _conditions(target, threads, scheme)
        self._file = cache_folder() / f"{target.name}-{_digest(self._conditions)}.json"
        self._known = _read(self._file)
        self.measured = 0
        """Operators measured by this table, not read from the file."""

    def seconds(self, operators: Iterable[Operator]) -> dict[Operator, float]:
        """The time of each operator in one inference.

        Raises:
            UnsupportedError: the target does not take one of them, or has no profiler.
        """
        asked = list(dict.fromkeys(operators))
        missing = [each for each in asked if each.key not in self._known]
        batches = _batches(missing)
        for batch in self._track(batches, f"latencies of layers on {self._target.name}", len(batches)):
            for operator, seconds in zip(batch, self._measure(batch), strict=True):
                self._known[operator.key] = seconds
            self.measured += len(batch)
        if missing:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            stored = self._conditions | {"seconds": _read(self._file) | self._known}
            write_text_whole(self._file, json.dumps(stored, indent=1, sort_keys=True))
        return {each: self._known[each.key] for each in asked}

    def _measure(self, operators: Sequence[Operator]) -> list[float]:
        with tempfile.TemporaryDirectory(prefix="compress-") as name:
            folder = Path(name)
            (folder / "engine").mkdir()
            inputs = {
                f"input_{number}_": np.random.default_rng(number).standard_normal(_shape(operator)).astype(np.float32)
                for number, operator in enumerate(operators)
            }
            model = _side_by_side(operators, folder / "model.onnx")
            if self._scheme.quantizer != "none":
                model = quantize_as_it_is(model, inputs, self._scheme, folder / "quantized.onnx")
            engine = self._target.compile(model, self._scheme, folder / "engine")
            layers = profile_of(engine, inputs, self._threads, RUNS).layers
        return [_time_of(f"product_{number}_", layers) for number in range(len(operators))]


def cache_folder() -> Path:
    """Where latencies are remembered: COMPRESS_CACHE, else edge-compress in the user's cache folder."""
    own = os.environ.get(CACHE_VARIABLE)
    if own:
        return Path(own) / "latency"
    users = os.environ.get("XDG_CACHE_HOME")
    return (Path(users) if users else Path.home() / ".cache") / "edge-compress" / "latency"


def _conditions(target: Target, threads: int, scheme: Scheme) -> dict[str, Any]:
    """All that a time depends on besides the operator."""
    versions = library_versions()
    runtime = target.runtime_module()
    return {
        "machine": fingerprint(),
        "versions": {name: version for name, version in versions.items() if name.replace("-", "_").startswith(runtime)},
        "target": target.name,
        "fields": fields_of(target),
        "threads": threads,
        **({} if scheme == FP32 else {"scheme": asdict(scheme)}),
    }


def _digest(conditions: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(conditions, sort_keys=True).encode()).hexdigest()[:16]


def _read(file: Path) -> dict[str, float]:
    """What was measured before; nothing where the file is missing or damaged."""
    try:
        seconds = json.loads(file.read_text())["seconds"]
        return {str(key): float(value) for key, value in seconds.items() if float(value) > 0}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _batches(operators: Sequence[Operator]) -> list[list[Operator]]:
    batches: list[list[Operator]] = []
    size = 0
    for operator in operators:
        if not batches or len(batches[-1]) == TOGETHER or size + operator.size_bytes > TOGETHER_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(operator)
        size += operator.size_bytes
    return batches


def _time_of(name: str, layers: Sequence[LayerTime]) -> float:
    """Of the kernels that come of one node; runtimes put layout changes around them, which do not count."""
    mine = [layer for layer in layers if name in layer.name]
    kernels = [layer for layer in mine if any(part in layer.operator.lower() for part in _PRODUCTS)]
    return max(sum(layer.time_s for layer in kernels or mine), 1e-9)


def _side_by_side(operators: Sequence[Operator], path: Path) -> OnnxModel:
    import onnx
    from onnx import TensorProto, helper

    nodes, weights, inputs, outputs = [], [], [], []
    for number, operator in enumerate(operators):
        node, constants = _node(number, operator)
        nodes.append(node)
        weights += constants
        inputs.append(helper.make_tensor_value_info(f"input_{number}_", TensorProto.FLOAT, _shape(operator)))
        outputs.append(helper.make_tensor_value_info(f"product_{number}_", TensorProto.FLOAT, None))
    graph = helper.make_graph(nodes, "operators", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return OnnxModel.read(path)


def _node(number: int, operator: Operator) -> tuple[onnx.NodeProto, list[onnx.TensorProto]]:
    from onnx import helper, numpy_helper

    generator = np.random.default_rng(number)

    def constant(name: str, shape: tuple[int, ...]) -> onnx.TensorProto:
        return numpy_helper.from_array(0.1 * generator.standard_normal(shape).astype(np.float32), f"{name}_{number}_")

    names = [f"input_{number}_", f"weight_{number}_"]
    node, window = f"product_{number}_", operator.window
    if window is None:
        weight = constant("weight", (operator.inputs, operator.outputs))
        return helper.make_node("MatMul", names, [f"product_{number}_"], name=node), [weight]
    groups = window.groups
    widths = (
        (operator.inputs, operator.outputs // groups)
        if window.transposed
        else (operator.outputs, operator.inputs // groups)
    )
    constants = [constant("weight", (*widths, *window.kernel)), constant("bias", (operator.outputs,))]
    made = helper.make_node(
        "ConvTranspose" if window.transposed else "Conv",
        [*names, f"bias_{number}_"],
        [f"product_{number}_"],
        name=node,
        kernel_shape=window.kernel,
        strides=window.stride,
        pads=[*window.padding, *window.padding],
        dilations=window.dilation,
        group=groups,
    )
    return made, constants


def _shape(operator: Operator) -> tuple[int, ...]:
    first, *space = operator.extent
    return (first, operator.inputs, *space)
