"""What runs an OpenVINO engine: devices, the properties it is loaded with, its model cache, and the session."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export.errors import EnvironmentFailure, InputError
from targets.base import Arrays, Engine

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

CACHE_VARIABLE = "COMPRESS_CACHE"


def missing_device(device: str) -> str | None:
    """Why a device string cannot be used here, with the devices that OpenVINO finds; None if it can."""
    import openvino

    found = openvino.Core().available_devices
    head, _, listed = device.partition(":")
    wanted = listed.split(",") if listed else [] if head == "AUTO" else [device]
    absent = [name for name in wanted if not any(_is(name, have) for have in found)]
    if not absent:
        return None
    return f"no {' and no '.join(absent)} on this machine; OpenVINO finds {', '.join(found) or 'no device'}"


def properties(settings: Mapping[str, Any], threads: int, concurrent: bool = False) -> dict[str, Any]:
    """What a model is compiled with on the device.

    OpenVINO runs an FP32 model in BF16 on a CPU that has it, unless the hint says f32. Threads are not pinned: the
    process that measures has set its own affinity.

    Args:
        settings: of the engine; what is left out is as OpenVino's fields have it.
        concurrent: for requests under way at once, whatever the hint.
    """
    device, streams = settings.get("device", "CPU"), settings.get("streams", 0)
    throughput = concurrent or settings.get("hint", "latency") == "throughput"
    chosen: dict[str, Any] = {
        "PERFORMANCE_HINT": "THROUGHPUT" if throughput else "LATENCY",
        "INFERENCE_PRECISION_HINT": settings["precision_hint"],
    }
    if device != "NPU" and (streams or not throughput):
        chosen["NUM_STREAMS"] = streams or 1
    if device == "AUTO" or "CPU" in device:
        chosen.update({"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False})
    if "cache_precision" in settings:
        chosen["KV_CACHE_PRECISION"] = settings["cache_precision"]
    if settings.get("cache", False):
        chosen["CACHE_DIR"] = str(cache_folder())
    return chosen


def cache_folder() -> Path:
    """Where OpenVINO keeps compiled models of every engine, on the machine that loads them.

    COMPRESS_CACHE or the user's cache folder, as for the toolkit's other caches: an artifact's own folder may be
    read-only, and stays what was shipped.
    """
    base = os.environ.get(CACHE_VARIABLE) or os.environ.get("XDG_CACHE_HOME")
    root = Path(base) if base else Path.home() / ".cache"
    return (root if os.environ.get(CACHE_VARIABLE) else root / "edge-compress") / "openvino"


def open_engine(engine: Engine, chosen: Mapping[str, Any]) -> Any:
    """The compiled model.

    Raises:
        EnvironmentFailure: if the files are damaged, or the device is not here.
    """
    import openvino

    device = engine.settings.get("device", "CPU")
    try:
        return openvino.Core().compile_model(str(engine.path), device, dict(chosen))
    except RuntimeError as error:
        reason = missing_device(device) or first_line(error)
        raise EnvironmentFailure(f"{engine.path.name}: OpenVINO cannot load it: {reason}") from error


class OpenVinoSession:
    """One infer request; inputs are shared with the caller, outputs are copied out.

    A buffer that comes again is bound already: to bind it anew takes 0.06 ms of every call (2026.4, Zen 3), which is no
    cost of the model. `start_async` and `wait` would save a little more, but hand the work to a second thread, and then the
    two wait for each other's core.
    """

    def __init__(self, compiled: Any, engine: Engine) -> None:
        self._request = compiled.create_infer_request()
        self._inputs = {spec.name: spec for spec in engine.inputs}
        self._outputs = {spec.name: compiled.output(spec.name) for spec in engine.outputs}
        self._bound: dict[str, np.ndarray] = {}
        self._alive: dict[str, np.ndarray] = {}

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        for name, array in inputs.items():
            if self._bound.get(name) is not array:
                self._bind(name, array)
        results = self._request.infer(None, share_outputs=True)
        return {name: np.array(results[port]) for name, port in self._outputs.items()}

    def forget(self) -> None:
        """Empty the cache of a decoder that keeps it."""
        self._request.reset_state()

    def _bind(self, name: str, array: np.ndarray) -> None:
        import openvino

        spec = self._inputs.get(name)
        usable = np.ascontiguousarray(array, spec.dtype if spec else None)
        try:
            self._request.set_tensor(name, openvino.Tensor(usable, shared_memory=True))
        except RuntimeError as error:
            allowed = list(spec.shape) if spec else f"inputs {', '.join(self._inputs)}"
            raise InputError(f"input '{name}': found shape {list(array.shape)}, allowed: {allowed}") from error
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


def first_line(error: RuntimeError) -> str:
    """OpenVINO's messages begin with lines of its own source locations; the reason follows."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [
        line for line in lines if line and not re.match(r"(Exception from|Check '.*' failed at|\S+\.[ch]pp)", line)
    ]
    checks = [line for line in lines if line.startswith("Check")]
    return (telling or checks or lines or ["unknown error"])[0]


def _is(name: str, found: str) -> bool:
    """Whether a found device is the one asked for: GPU stands for any, and a single one is listed without its number."""
    return name == found or name == found.partition(".")[0] or name == f"{found}.0"
