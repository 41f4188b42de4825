"""What every runtime offers: a Target compiles an ONNX model to an Engine and opens a Session on it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np

from export.bundle.manifest import Runtime
from export.model import OnnxModel, TensorSpec

if TYPE_CHECKING:
    from typing import Self

    from targets.generation import Generation

Arrays = dict[str, np.ndarray]

Ranges = Literal["minmax", "percentile", "entropy", "mse"]


@dataclass(frozen=True)
class Scheme:
    """How numbers are held and multiplied; made by a target, carried out by the quantizer and by `compile`.

    `name` is unique within a target and names the artifact's folder. `quantizer` says who inserts the
    Q/DQ nodes ("none" leaves the ONNX model as it is: the precision is then a compile option). NNCF chooses the types
    and symmetry of activations itself, by the kind of network; of what says where Q/DQ nodes go it takes `reduce_range`
    alone. The fields from `ranges` on are done by this toolkit, whoever inserted the nodes.

    Args:
        mode: "static" ranges of activations from calibration data, "dynamic" ones at run time, or "weights": activations
            stay float, and only what is stored shrinks.
        weight_bits: 4 stores values from -8 to 7.
        ranges: how a static range is chosen from the values that the calibration data gives.
        bias_correction: put the mean error of each weighted layer's output into its bias.
        adaround: choose for each weight whether to round up or down, so that the layer's output stays.
        equalize: give neighbouring convolutions like ranges of weights first (for depthwise networks).
        smooth: alpha of SmoothQuant: how much of the activations' outliers goes into the weights; 0 leaves them.
    """

    name: str
    precision: Literal["fp32", "fp16", "bf16", "int8", "int4"]
    quantizer: Literal["none", "onnxruntime", "nncf"] = "none"
    mode: Literal["static", "dynamic", "weights"] = "static"
    activations: Literal["uint8", "int8"] = "uint8"
    weights: Literal["uint8", "int8"] = "int8"
    symmetric_activations: bool = False
    per_channel: bool = True
    reduce_range: bool = False
    quantize_bias: bool = True
    weight_bits: Literal[4, 8] = 8
    ranges: Ranges = "minmax"
    bias_correction: bool = False
    adaround: bool = False
    equalize: bool = False
    smooth: float = 0.0
    why: str = ""

    @property
    def needs_calibration(self) -> bool:
        return self.quantizer != "none" and self.mode == "static"


FP32 = Scheme("fp32", "fp32", why="the runtime's own gain, without compression")


def on_request(static: Scheme) -> tuple[Scheme, ...]:
    """Variants of a target's static INT8 that a recipe may name: each takes longer to make, and few networks need it."""
    return (
        replace(static, name="int8-adaround", adaround=True, why="weights rounded for the layer's output"),
        replace(static, name="int8-equalized", equalize=True, why="for depthwise networks whose channels differ much"),
        replace(
            static,
            name="w4a8",
            precision="int4",
            weight_bits=4,
            adaround=True,
            why="weights of 4 bits for kernels of 8",
        ),
    )


@dataclass(frozen=True)
class Engine:
    """A compiled artifact on disk. `path` is what the session loads; `files` is all that ships."""

    target: str
    scheme: str
    path: Path
    files: tuple[Path, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    build_s: float
    operators: Mapping[str, int] = field(default_factory=dict)
    """Operators of the runtime's own optimised graph by the precision they run in, where the runtime tells."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What `load` needs to know again (precision hints, compute capability); plain JSON values."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else the target tells of the artifact, for the report; plain JSON values."""
    parts: Mapping[str, Engine] = field(default_factory=dict)
    """Of a language model that writes: its compiled parts ("decoder", "encoder"), whose files `files` holds all of."""
    generation: Generation | None = None
    """How the parts are called; None where the engine is one model, called once."""

    @property
    def folder(self) -> Path:
        """The folder that holds all its files."""
        return Path(os.path.commonpath([file.parent for file in (self.path, *self.files)]))

    @property
    def size_bytes(self) -> int:
        """Bytes of what the device has to store to run the model."""
        return sum(file.stat().st_size for file in self.files)

    def to_json(self, folder: Path) -> dict[str, Any]:
        """Plain JSON with file paths relative to `folder`, so that no path of a machine is written."""
        return {
            "target": self.target,
            "scheme": self.scheme,
            "path": self.path.relative_to(folder).as_posix(),
            "files": [file.relative_to(folder).as_posix() for file in self.files],
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
            "build_s": self.build_s,
            "operators": dict(self.operators),
            "settings": dict(self.settings),
            "facts": dict(self.facts),
            **(
                {
                    "parts": {name: part.to_json(folder) for name, part in self.parts.items()},
                    "generation": self.generation.to_json(),
                }
                if self.generation
                else {}
            ),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], folder: Path) -> Self:
        plain = cls(
            target=value["target"],
            scheme=value["scheme"],
            path=folder / value["path"],
            files=tuple(folder / file for file in value["files"]),
            inputs=tuple(TensorSpec.from_json(spec) for spec in value["inputs"]),
            outputs=tuple(TensorSpec.from_json(spec) for spec in value["outputs"]),
            build_s=value["build_s"],
            operators=value["operators"],
            settings=value["settings"],
            facts=value.get("facts", {}),
        )
        if "generation" not in value:
            return plain
        from targets.generation import Generation  # of a device's runner only where its bundle writes

        parts = {name: cls.from_json(part, folder) for name, part in value["parts"].items()}
        return replace(plain, parts=parts, generation=Generation.from_json(value["generation"]))


@dataclass(frozen=True)
class Needs:
    """What an engine needs of a device, and takes along.

    Args:
        runtime: what must be installed; an empty `built_with` is filled from the run's report.
        files: what a device needs besides `Engine.files`, and lies in the same folder.
    """

    runtime: Runtime
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class LayerTime:
    """One operator as the runtime executed it: its typical time over the profiled inferences.

    `name` is the runtime's own, `operator` its kind ("Convolution"), `precision` one of "fp32", "fp16", "bf16", "int8",
    "other"; `inputs` and `outputs` are shapes, where the runtime tells.
    """

    name: str
    operator: str
    precision: str
    time_s: float
    inputs: tuple[tuple[int, ...], ...] = ()
    outputs: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Profile:
    """Where the time of one inference goes: `layers` in the order of execution, from the runtime's own profiler.

    `call_s` is the median of whole inferences in the same process just before, with no profiler on. What it is more
    than the layers together is the runtime's work between them.
    """

    layers: tuple[LayerTime, ...]
    call_s: float


def without_profiler(layers: Sequence[LayerTime], call_s: float, at_least_s: float = 0.0) -> tuple[LayerTime, ...]:
    """The layers without what the profiler itself took of each, which makes small ones look large.

    Where the layers together exceed a call that ran without the profiler, the rest is taken off all of them evenly.

    Args:
        at_least_s: what the profiler is known to take of each.
    """
    if not layers:
        return ()
    excess_s = (sum(layer.time_s for layer in layers) - call_s) / len(layers)
    own_s = max(at_least_s, excess_s)
    return tuple(replace(layer, time_s=max(0.0, layer.time_s - own_s)) for layer in layers)


Interface = tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]
"""Inputs and outputs of a model file."""


def axis_name(tensor: str, position: int) -> str:
    """For a dynamic axis that the file does not name."""
    return "batch" if position == 0 else f"{tensor}.{position}"


class Session(Protocol):
    """A loaded engine. `run` takes every input by name and returns every output by name."""

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Target(Protocol):
    """A runtime. Implementations are frozen dataclasses whose fields are the target's YAML keys."""

    name: ClassVar[str]

    @classmethod
    def runtime_module(cls) -> str:
        """The module that `load` imports ("onnxruntime"): a worker imports it first, so that its weight is known."""

    def unavailable(self) -> str | None:
        """Why this target cannot compile here, with the install line; None if it can."""

    def cannot_run(self) -> str | None:
        """Why a compiled engine cannot run on this machine; None if it can."""

    def schemes(self, model: OnnxModel | None = None) -> Sequence[Scheme]:
        """What this runtime runs well on this machine, best guess first; holds `FP32` always.

        With a model, only what can suit its kind of network; without, everything the target knows.
        """

    def compile(self, model: OnnxModel, scheme: Scheme, out: Path) -> Engine:
        """Write the artifact into the existing, empty folder `out`.

        Raises:
            UnsupportedError: if the runtime refuses an operator; the message names operator and node.
        """

    def needs(self, engine: Engine) -> Needs:
        """What a device must have to run the engine."""

    def load(self, engine: Engine, threads: int) -> Session:
        """Open the engine on `threads` threads, without spinning pools between runs."""

    def load_concurrent(self, engine: Engine, threads: int) -> Sequence[Session]:
        """Open the engine as the runtime does for throughput: sessions that may run at once, each from a thread of its own.

        They share one loaded model and `threads` threads, and no buffer of an output; there are as many as the runtime
        asks for to be busy.
        """

    def profile(self, engine: Engine, inputs: Mapping[str, np.ndarray], threads: int, runs: int) -> Profile:
        """The time of each operator over `runs` inferences on `inputs`, warm-up excluded.

        Raises:
            UnsupportedError: if the runtime does not run here, or does not tell.
        """


def median_call_s(session: Session, inputs: Mapping[str, np.ndarray], runs: int) -> float:
    """Median seconds of one inference on a CPU over `runs`, after a tenth as many unmeasured ones; closes the session.

    A call counts no longer than the process had a core: what something else on the machine took is not the engine's.
    """
    warmup = max(2, runs // 10)
    with session:
        taken = [call_s(session, inputs) for _ in range(warmup + runs)]
    return median(taken[warmup:])


def call_s(session: Session, inputs: Mapping[str, np.ndarray]) -> float:
    """Seconds of one inference, as `median_call_s` counts them."""
    start, cpu = time.perf_counter(), time.process_time()
    session.run(inputs)
    wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    return min(wall_s, cpu_s)
