"""What runs an .ort file on a device: the options it was compiled for, and the session. Needs ONNX Runtime and numpy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export.errors import EnvironmentFailure
from targets.base import Arrays, Engine
from targets.isa import architecture

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

PROVIDERS = ["CPUExecutionProvider"]
LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "none": "ORT_DISABLE_ALL",
}
"""How far a graph is optimised -> ONNX Runtime's name for it."""


def level(name: str) -> Any:
    import onnxruntime

    return getattr(onnxruntime.GraphOptimizationLevel, LEVELS[name])


def ort_file(engine: Engine) -> Path:
    """The file of an engine for this machine's processor family; where none was made for it, the engine's own."""
    others: Mapping[str, str] = engine.settings.get("also_for", {})
    return engine.path.with_name(others.get(architecture(), engine.path.name))


def open_engine(engine: Engine, threads: int, profile: Path | None = None) -> Any:
    """ONNX Runtime's session.

    Raises:
        EnvironmentFailure: if the file is damaged, or made for another processor family.
    """
    import onnxruntime

    settings, path = engine.settings, ort_file(engine)
    spinning = "1" if settings.get("spinning", False) else "0"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = level(settings.get("optimisation", "all"))
    options.enable_cpu_mem_arena = settings.get("arena", True)
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    options.add_session_config_entry("session.inter_op.allow_spinning", spinning)
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=PROVIDERS)
    except runtime_errors() as error:
        raise EnvironmentFailure(f"{path.name}: ONNX Runtime cannot load it: {reason(error)}") from error


class OnnxRuntimeSession:
    def __init__(self, session: Any) -> None:
        self._session = session
        self._outputs = [output.name for output in session.get_outputs()]

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(inputs))))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._session


def runtime_errors() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (state.Fail, state.InvalidArgument, state.InvalidGraph, state.NotImplemented, state.RuntimeException)


def reason(error: Exception) -> str:
    """ONNX Runtime's message without its error codes and file paths."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error).splitlines()[0])
    return re.sub(r"Load model from \S+ failed: ?(Fatal error: )?", "", text)
