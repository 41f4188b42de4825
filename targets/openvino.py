"""OpenVINO on CPUs: an IR (model.xml, model.bin) from ONNX, run in true FP32, BF16 or INT8."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np

from export.errors import EnvironmentFailure, InputError, UnsupportedError
from export.model import OnnxModel, TensorSpec
from targets.base import FP32, Arrays, Engine, Interface, Profile, Scheme, axis_name, median_call_s, on_request
from targets.graph import has_attention
from targets.isa import instruction_sets
from targets.openvino_profile import layer_times, operators_by_precision

INSTALL = "pip install 'edge-compress[openvino]'"


@dataclass(frozen=True)
class OpenVino:
    """The CPU device, tuned for the latency of one request at a time."""

    name: ClassVar[str] = "openvino"

    @classmethod
    def runtime_module(cls) -> str:
        return "openvino"

    def unavailable(self) -> str | None:
        missing = [package for package in ("openvino", "nncf") if find_spec(package) is None]
        return f"{' and '.join(missing)} not installed; {INSTALL}" if missing else None

    def cannot_run(self) -> str | None:
        return None if find_spec("openvino") else f"openvino not installed; {INSTALL}"

    def schemes(self, model: OnnxModel | None = None) -> Sequence[Scheme]:
        """INT8 first, whatever the model; who places its nodes depends on the network.

        Measured with OpenVINO 2026.4, batch 1, one thread: ResNet-56 is 1.8x (Zen 3) and 2.3x (Zen 5) as fast as
        FP32. MiniLM is 2.8x on Zen 5, but 0.85x on Zen 3: without VNNI oneDNN's INT8 products lose to FP32.
        ResNet-20 takes as long with ONNX Runtime's placement as with NNCF's (ratio 0.99-1.01), and comes closer to the float
        model: 0.7 % of its predictions change, 1.5 % with NNCF's defaults.
        """
        features = instruction_sets()
        graph = model.proto().graph if model else None
        attention = graph is not None and has_attention(graph)
        saturates = "vnni" not in features
        nncf = Scheme(
            "int8" if attention else "int8-nncf",
            "int8",
            quantizer="nncf",
            reduce_range=saturates,
            ranges="mse",
            bias_correction=not attention,
            why="INT8 products where NNCF places them; weights in 7 bits where no VNNI keeps sums from saturating",
        )
        int8 = Scheme(
            "int8",
            "int8",
            quantizer="onnxruntime",
            reduce_range=saturates,
            ranges="mse",
            bias_correction=True,
            why="INT8 with ranges of least squared error and corrected biases; 7-bit weights where sums would saturate",
        )
        offered = [nncf] if attention else [int8, nncf]
        if model is None:
            offered += [
                *on_request(int8),
                Scheme("int8-weights", "int8", "nncf", mode="weights", why="only what is stored shrinks: a quarter"),
                Scheme(
                    "int4-weights",
                    "int4",
                    "nncf",
                    mode="weights",
                    weight_bits=4,
                    why="only what is stored shrinks: an eighth",
                ),
            ]
        bf16 = Scheme("bf16", "bf16", why="this CPU multiplies BF16 natively: half the bytes, no calibration")
        return (*offered, *((bf16,) if "bf16" in features else ()), FP32)

    def compile(self, model: OnnxModel, scheme: Scheme, out: Path) -> Engine:
        """Write model.xml and model.bin; weights keep the precision that `model` gives them."""
        import openvino

        start = time.perf_counter()
        settings = {"precision_hint": "bf16" if scheme.precision == "bf16" else "f32"}
        core = openvino.Core()
        try:
            network = core.read_model(model.path)
            compiled = core.compile_model(network, "CPU", _properties(settings, threads=1))
        except RuntimeError as error:
            raise UnsupportedError(f"openvino, scheme '{scheme.name}': {_reason(error, model)}") from error
        openvino.save_model(network, out / "model.xml", compress_to_fp16=False)
        return Engine(
            target=self.name,
            scheme=scheme.name,
            path=out / "model.xml",
            files=(out / "model.xml", out / "model.bin"),
            inputs=model.inputs,
            outputs=model.outputs,
            build_s=time.perf_counter() - start,
            operators=operators_by_precision(compiled),
            settings=settings,
        )

    def load(self, engine: Engine, threads: int) -> OpenVinoSession:
        compiled = _open(engine, _properties(engine.settings, threads))
        return OpenVinoSession(compiled, engine)

    def load_concurrent(self, engine: Engine, threads: int) -> Sequence[OpenVinoSession]:
        """As many infer requests as the throughput hint asks for; OpenVINO shares the threads out among its streams."""
        compiled = _open(engine, _properties(engine.settings, threads, concurrent=True))
        requests = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        return [OpenVinoSession(compiled, engine) for _ in range(requests)]

    def profile(self, engine: Engine, inputs: Mapping[str, np.ndarray], threads: int, runs: int) -> Profile:
        call_s = median_call_s(self.load(engine, threads), inputs, runs)
        properties = _properties(engine.settings, threads) | {"PERF_COUNT": True}
        return Profile(layer_times(lambda: _open(engine, properties), inputs, runs), call_s)


class OpenVinoSession:
    """One infer request; inputs are shared with the caller, outputs are copied out.

    A buffer that comes again is bound already: to bind it anew takes 0.06 ms of every call (2026.4, Zen 3), which is no
    cost of the model. `start_async` and `wait` would save a little more, but hand the work to a second thread, and then the
    two wait for each other's core.
    """

    def __init__(self, compiled: Any, engine: Engine) -> None:
        self._request = compiled.create_infer_request()
        self._dtypes = {spec.name: np.dtype(spec.dtype) for spec in engine.inputs}
        self._outputs = {spec.name: compiled.output(spec.name) for spec in engine.outputs}
        self._bound: dict[str, np.ndarray] = {}
        self._alive: dict[str, np.ndarray] = {}

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        for name, array in inputs.items():
            if self._bound.get(name) is not array:
                self._bind(name, array)
        results = self._request.infer(None, share_outputs=True)
        return {name: np.array(results[port]) for name, port in self._outputs.items()}

    def _bind(self, name: str, array: np.ndarray) -> None:
        import openvino

        usable = np.ascontiguousarray(array, self._dtypes.get(name))
        self._request.set_tensor(name, openvino.Tensor(usable, shared_memory=True))
        self._alive[name] = usable  # the tensor only points to it
        self._bound.pop(name, None)
        if usable is array:  # a copy would not follow what the caller writes into the array
            self._bound[name] = array

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._request, self._outputs, self._bound, self._alive


def interface(path: Path) -> Interface:
    """Inputs and outputs of a model.xml, which does not keep the names of dynamic axes.

    Raises:
        InputError: if OpenVINO cannot read the file.
        UnsupportedError: if an input has no fixed number of axes.
    """
    import openvino

    try:
        network = openvino.Core().read_model(path)
    except RuntimeError as error:
        raise InputError(f"{path.name}: OpenVINO cannot read it: {_first_line(error)}") from error
    for port in network.inputs:
        if port.get_partial_shape().rank.is_dynamic:
            raise UnsupportedError(f"{path.name}: input '{port.get_any_name()}' has no fixed number of axes")
    return tuple(map(_spec, network.inputs)), tuple(map(_spec, network.outputs))


def _spec(port: Any) -> TensorSpec:
    name, shape, kind = port.get_any_name(), port.get_partial_shape(), port.get_element_type().get_type_name()
    axes = () if shape.rank.is_dynamic else tuple(shape)
    return TensorSpec(
        name,
        _DTYPES.get(kind, kind),
        tuple(axis_name(name, place) if axis.is_dynamic else axis.get_length() for place, axis in enumerate(axes)),
    )


_DTYPES = {"f16": "float16", "f32": "float32", "f64": "float64", "boolean": "bool"} | {
    f"{kind[0]}{bits}": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)
}


def _open(engine: Engine, properties: Mapping[str, Any]) -> Any:
    import openvino

    try:
        return openvino.Core().compile_model(str(engine.path), "CPU", properties)
    except RuntimeError as error:
        raise EnvironmentFailure(f"{engine.path.name}: OpenVINO cannot load it: {_first_line(error)}") from error


def _properties(settings: Mapping[str, Any], threads: int, concurrent: bool = False) -> dict[str, Any]:
    """OpenVINO runs an FP32 model in BF16 on a CPU that has it, unless the hint says f32.

    Threads are not pinned: the process that measures has set its own affinity.
    """
    hint = {"PERFORMANCE_HINT": "THROUGHPUT"} if concurrent else {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
    return {
        **hint,
        "INFERENCE_PRECISION_HINT": settings["precision_hint"],
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
    }


def _reason(error: RuntimeError, model: OnnxModel) -> str:
    """The operators without a conversion, with a node of each; else the first telling line of OpenVINO's message."""
    unknown = re.search(r"operations:\s*(.+)", str(error))
    if not unknown:
        return f"{_first_line(error)}; export the model without this operator, or leave the target out"
    operators = {re.sub(r"-\d+$", "", name.strip()).rpartition(".")[2] for name in unknown[1].split(",")}
    nodes = [f"{node.op_type} (node '{node.name}')" for node in model.proto().graph.node if node.op_type in operators]
    return f"no conversion for operator {', '.join(nodes or sorted(operators))}; replace it, or leave the target out"


def _first_line(error: RuntimeError) -> str:
    """OpenVINO's messages begin with lines of its own source locations; the reason follows."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [
        line for line in lines if line and not re.match(r"(Exception from|Check '.*' failed at|\S+\.[ch]pp)", line)
    ]
    return (telling or lines or ["unknown error"])[0]
