"""What a convolution or linear layer takes at certain widths on a runtime: measured once, remembered in a file.

In FP32, or quantized by the scheme that is to ship.

Operators are measured as small ONNX models of many operators side by side, each with an input of its own, by the
runtime's own profiler: it tells each operator's time without what a call costs besides.

A machine's pace changes from minute to minute, on a shared host by half and more, and with it what a profiler adds to
each operator (1 µs and 8 were seen, where the operator took 3). So every such model has two more operators in it: one with
hardly anything to do, which shows what is added, and one that shows the pace. What was measured at one time can then be
compared with what was measured at another.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
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
from targets import FP32, LayerTime, Profile, Scheme, Target

if TYPE_CHECKING:
    import onnx

CACHE_VARIABLE = "COMPRESS_CACHE"
TOGETHER = 64
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
        window: of a convolution or max pool.
        pools: no product, but a max pool.
    """

    inputs: int
    outputs: int
    extent: tuple[int, ...]
    window: Window | None
    pools: bool = False

    @staticmethod
    def at(product: Product, inputs: int, outputs: int) -> Operator:
        """The operator of a product at other widths. With groups the inputs follow the outputs; a filter for each
        channel leaves as many groups as channels."""
        if product.pools:
            batch, _, *space = product.activations
            return Operator(inputs, inputs, (batch, *space), product.window, pools=True)
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


PACE = Operator(64, 64, (1, 16, 16), Window((3, 3), (1, 1), (1, 1), (1, 1), groups=1, transposed=False))
"""Shows the pace: some tens of microseconds, long enough for a profiler and short beside what it is measured with."""
IDLE = Operator(8, 8, (1, 1, 1), Window((1, 1), (1, 1), (0, 0), (1, 1), groups=1, transposed=False))
"""Shows what a profiler adds. What it takes without one is told by a chain of it."""
CHAIN = 32
READ = 8
"""Channels that the convolution before a max pool reads."""


class LatencyTable:
    """Seconds of operators on one target, all at the pace at which its first ones were measured; what has been measured is
    kept for the next run on this machine."""

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
            for operator, seconds in zip(batch, self._at_one_pace(batch), strict=True):
                self._known.setdefault(operator.key, seconds)
            self.measured += len(batch)
            self._keep()
        return {each: self._known[each.key] for each in asked}

    def _keep(self) -> None:
        """After every small model, so that an interrupted search goes on where it was."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        stored = self._conditions | {"seconds": _read(self._file) | self._known}
        write_text_whole(self._file, json.dumps(stored, indent=1, sort_keys=True))

    def _at_one_pace(self, operators: Sequence[Operator]) -> list[float]:
        """What a profiler adds is taken off; what any operator takes without one is put back."""
        if IDLE.key not in self._known:
            self._known[IDLE.key] = self._least_s()
        first = IDLE  # waits for the call to get going, and does not count
        asked = [first, IDLE, PACE, *operators, PACE, IDLE]
        profile = self._profile(_side_by_side(asked), {f"input_{number}_": each for number, each in enumerate(asked)})
        _, idle, pace, *seconds, pace_after, idle_after = (
            _time_of(f"product_{number}_", profile.layers) for number in range(len(asked))
        )
        added_s = (idle + idle_after) / 2
        pace_s = max((pace + pace_after) / 2 - added_s, 1e-9)
        quicker = self._known.setdefault(PACE.key, pace_s) / pace_s
        return [max(quicker * (each - added_s), 0.0) + self._known[IDLE.key] for each in seconds]

    def _least_s(self) -> float:
        """What an operator takes that has hardly anything to do, in a chain of them."""
        profile = self._profile(_chain(CHAIN), {"input_0_": IDLE})
        return min(median([layer.time_s for layer in profile.layers]), profile.call_s / CHAIN)

    def _profile(self, proto: onnx.ModelProto, inputs: Mapping[str, Operator]) -> Profile:
        """Of a model of which each input is an operator's."""
        import onnx

        arrays = {
            name: np.random.default_rng(number).standard_normal(_shape(operator)).astype(np.float32)
            for number, (name, operator) in enumerate(inputs.items())
        }
        with tempfile.TemporaryDirectory(prefix="compress-") as name:
            folder = Path(name)
            (folder / "engine").mkdir()
            onnx.save(proto, folder / "model.onnx")
            model = OnnxModel.read(folder / "model.onnx")
            if self._scheme.quantizer != "none":
                model = quantize_as_it_is(model, arrays, self._scheme, folder / "quantized.onnx")
            engine = self._target.compile(model, self._scheme, folder / "engine")
            return profile_of(engine, arrays, self._threads, RUNS)


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
        "beside": [asdict(IDLE), asdict(PACE)],
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


def kernels_of_products(layers: Sequence[LayerTime]) -> list[LayerTime]:
    """Those that multiply, by the names that runtimes give them."""
    return [layer for layer in layers if any(part in layer.operator.lower() for part in _PRODUCTS)]


def _time_of(name: str, layers: Sequence[LayerTime]) -> float:
    """Of the kernels that come of one node; runtimes put layout changes around them, which do not count."""
    mine = [layer for layer in layers if name in layer.name]
    return max(sum(layer.time_s for layer in kernels_of_products(mine) or mine), 1e-9)


def _side_by_side(operators: Sequence[Operator]) -> onnx.ModelProto:
    """Each with an input of its own; `product_N_` is the node of the Nth."""
    made = [_nodes(number, operator) for number, operator in enumerate(operators)]
    inputs = {f"input_{number}_": operator for number, operator in enumerate(operators)}
    return _model([each for several in made for each in several], inputs, [nodes[-1][0].output[0] for nodes in made])


def _chain(length: int) -> onnx.ModelProto:
    """Idle operators one behind the other."""
    names = ["input_0_", *(f"product_{number}_" for number in range(length))]
    return _model([_node(number, names[number], IDLE) for number in range(length)], {"input_0_": IDLE}, names[-1:])


def _model(
    made: Sequence[Made],
    inputs: Mapping[str, Operator],
    outputs: Sequence[str],
) -> onnx.ModelProto:
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [node for node, _ in made],
        "operators",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, _shape(each)) for name, each in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [constant for _, constants in made for constant in constants],
    )
    return onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    )


Made = tuple["onnx.NodeProto", list["onnx.TensorProto"]]
"""A node and its constants."""


def _nodes(number: int, operator: Operator) -> list[Made]:
    """An operator as it stands in a network: a max pool between convolutions, of data that is nowhere below 0."""
    from onnx import helper

    name = f"input_{number}_"
    if not operator.pools:
        return [_node(number, name, operator)]
    window = operator.window
    assert window is not None, "a max pool has a window"
    before = replace(operator, inputs=READ, window=IDLE.window, pools=False)
    after = replace(IDLE, inputs=operator.inputs)
    pool = helper.make_node(
        "MaxPool",
        [f"positive_{number}_"],
        [f"product_{number}_"],
        name=f"product_{number}_",
        kernel_shape=window.kernel,
        strides=window.stride,
        pads=[*window.padding, *window.padding],
        dilations=window.dilation,
    )
    return [
        _node(number, name, before, "before"),
        (helper.make_node("Relu", [f"before_{number}_"], [f"positive_{number}_"], name=f"positive_{number}_"), []),
        (pool, []),
        _node(number, f"product_{number}_", after, "after"),
    ]


def _node(number: int, source: str, operator: Operator, kind: str = "product") -> Made:
    from onnx import helper, numpy_helper

    generator = np.random.default_rng(number)

    def constant(name: str, shape: tuple[int, ...]) -> onnx.TensorProto:
        return numpy_helper.from_array(
            0.1 * generator.standard_normal(shape).astype(np.float32), f"{name}_{number}_{kind}"
        )

    node, window = f"{kind}_{number}_", operator.window
    names = [source, f"weight_{number}_{kind}"]
    if window is None:
        weight = constant("weight", (operator.inputs, operator.outputs))
        return helper.make_node("MatMul", names, [node], name=node), [weight]
    groups = window.groups
    widths = (
        (operator.inputs, operator.outputs // groups)
        if window.transposed
        else (operator.outputs, operator.inputs // groups)
    )
    constants = [constant("weight", (*widths, *window.kernel)), constant("bias", (operator.outputs,))]
    made = helper.make_node(
        "ConvTranspose" if window.transposed else "Conv",
        [*names, f"bias_{number}_{kind}"],
        [node],
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
    return (first, READ if operator.pools else operator.inputs, *space)
