"""OpenVINO on CPUs: an IR (model.xml, model.bin) from ONNX, run in true FP32, BF16 or INT8."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np

from export.errors import EnvironmentFailure, UnsupportedError
from export.model import OnnxModel
from targets.base import FP32, Arrays, Engine, Scheme
from targets.isa import instruction_sets

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
        """INT8 by NNCF first, whatever the model.

        Measured with OpenVINO 2026.4, batch 1, one thread: ResNet-56 is 1.8x (Zen 3) and 2.3x (Zen 5) as fast as
        FP32. MiniLM is 2.8x on Zen 5, but 0.85x on Zen 3: without VNNI oneDNN's INT8 products lose to FP32.
        """
        features = instruction_sets()
        int8 = Scheme(
            "int8",
            "int8",
            quantizer="nncf",
            reduce_range="vnni" not in features,
            why="INT8 products with NNCF's bias correction; weights in 7 bits where no VNNI keeps sums from saturating",
        )
        bf16 = Scheme("bf16", "bf16", why="this CPU multiplies BF16 natively: half the bytes, no calibration")
        return (int8, *((bf16,) if "bf16" in features else ()), FP32)

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
            operators=_operators_by_precision(compiled),
            settings=settings,
        )

    def load(self, engine: Engine, threads: int) -> OpenVinoSession:
        import openvino

        try:
            compiled = openvino.Core().compile_model(str(engine.path), "CPU", _properties(engine.settings, threads))
        except RuntimeError as error:
            raise EnvironmentFailure(f"{engine.path.name}: OpenVINO cannot load it: {_first_line(error)}") from error
        return OpenVinoSession(compiled, [spec.name for spec in engine.outputs])


class OpenVinoSession:
    """One infer request; inputs are shared with the caller, outputs are copied out."""

    def __init__(self, compiled: Any, outputs: Sequence[str]) -> None:
        self._request = compiled.create_infer_request()
        self._outputs = {name: compiled.output(name) for name in outputs}

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        results = self._request.infer(dict(inputs), share_inputs=True, share_outputs=True)
        return {name: np.array(results[port]) for name, port in self._outputs.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._request, self._outputs


def _properties(settings: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """OpenVINO runs an FP32 model in BF16 on a CPU that has it, unless the hint says f32.

    Threads are not pinned: the process that measures has set its own affinity.
    """
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": settings["precision_hint"],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }


_PRECISIONS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "i8": "int8", "u8": "int8"}
_PRODUCTS = ("Convolution", "Deconvolution", "FullyConnected", "MatMul", "Pooling")


def _operators_by_precision(compiled: Any) -> dict[str, int]:
    """Executed operators of the runtime graph by precision; constants, inputs and outputs do not count.

    u8 counts as INT8 only in products and pooling: elsewhere it is mostly a mask of booleans.
    """
    counts: Counter[str] = Counter()
    for operator in compiled.get_runtime_model().get_ops():
        info = operator.get_rt_info()
        layer, precision = info["layerType"].astype(str), info["runtimePrecision"].astype(str)
        if layer in ("Const", "Input", "Output"):
            continue
        counts["other" if precision == "u8" and layer not in _PRODUCTS else _PRECISIONS.get(precision, "other")] += 1
    return dict(sorted(counts.items()))


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
