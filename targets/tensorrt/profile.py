"""What TensorRT tells of an engine: its layers from the engine inspector, their times from the context's profiler."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from targets.base import LayerTime

_PRECISIONS = {"FP32": "fp32", "FP16": "fp16", "BF16": "bf16", "Int8": "int8", "INT8": "int8"}


def collecting_profiler(trt: Any) -> Any:
    """A profiler that keeps the milliseconds of every layer by its name, in `times_ms`.

    TensorRT asks for a subclass of its own IProfiler, which exists only once the module is imported.
    """

    class Collecting(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.times_ms: dict[str, list[float]] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.times_ms.setdefault(layer_name, []).append(ms)

    return Collecting()


def read_layers(information: str, times_ms: Mapping[str, Sequence[float]]) -> tuple[LayerTime, ...]:
    """A LayerTime for every layer that was timed.

    Args:
        information: the inspector's JSON. Kind, shapes and precision are in it only for engines built with detailed
            profiling verbosity; for others a layer is a name.
    """
    layers = json.loads(information).get("Layers", [])
    details = {layer["Name"]: layer for layer in layers if isinstance(layer, dict)}
    return tuple(_layer(name, 1e-3 * median(taken), details.get(name, {})) for name, taken in times_ms.items())


def engine_layers(trt: Any, engine: Any) -> list[dict[str, str]]:
    """Name, kind and precision of every layer of a deserialised engine, in the order of execution; plain JSON."""
    information = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    told = [
        each if isinstance(each, dict) else {"Name": str(each)} for each in json.loads(information).get("Layers", [])
    ]
    layers = [_layer(each["Name"], 0.0, each) for each in told]
    return [{"name": each.name, "operator": each.operator, "precision": each.precision} for each in layers]


def operators_by_precision(layers: Iterable[Mapping[str, str]]) -> dict[str, int]:
    """How many layers run in each precision."""
    return dict(Counter(layer["precision"] for layer in layers))


def _layer(name: str, time_s: float, told: Mapping[str, Any]) -> LayerTime:
    made = told.get("Outputs", [])
    found = re.search("|".join(_PRECISIONS), made[0].get("Format/Datatype", "")) if made else None
    return LayerTime(
        name=name,
        operator=told.get("LayerType", "layer"),
        precision=_PRECISIONS[found[0]] if found else "other",
        time_s=time_s,
        inputs=tuple(tuple(entry["Dimensions"]) for entry in told.get("Inputs", [])),
        outputs=tuple(tuple(entry["Dimensions"]) for entry in made),
    )
