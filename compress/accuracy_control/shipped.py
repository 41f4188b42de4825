"""Accuracy control's view of what ships: one graph or several parts, its layers switched, given back and named alike."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.profile import layers_of
from compress.accuracy_control.give_back import give_back
from compress.accuracy_control.layer_names import module_names
from compress.accuracy_control.layer_price import in_float_anyway, layer_seconds
from compress.accuracy_control.layer_switch import LayerSwitch
from compress.accuracy_control.part_switch import PartSwitch, in_part, layers_by_part, readings
from compress.generation.assembly import Assembly, Shipped
from compress.measuring import Bench, answering, timed
from compress.profile_inputs import calls_of
from export.model import OnnxModel
from targets import Engine, LayerTime
from targets.base import Arrays

Switch = LayerSwitch | PartSwitch


def switch_of(quantized: Shipped, original: Shipped, bench: Bench) -> Switch:
    """Each layer of what was quantized in 8 bits or in float as the call asks."""
    threads = bench.job.recipe.benchmark.threads
    if isinstance(quantized, OnnxModel):
        assert isinstance(original, OnnxModel), "a graph is quantized to a graph"
        return LayerSwitch(quantized.proto(), original.proto(), threads)
    assert isinstance(original, Assembly), "parts are quantized to parts"
    return PartSwitch(quantized, original, answering(original.generation, bench.job.workload), threads)


def read_by(original: Shipped, bench: Bench) -> Iterable[Arrays]:
    """Calibration samples, one at a time, as the switch takes them."""
    return bench.calibration if isinstance(original, OnnxModel) else readings(original, bench.calibration)


def given_back(quantized: Shipped, original: Shipped, layers: Sequence[str], folder: Path) -> Shipped:
    """Write what was quantized into `folder`, with these layers in float again."""
    import onnx

    if isinstance(quantized, OnnxModel):
        assert isinstance(original, OnnxModel), "a graph is quantized to a graph"
        onnx.save(give_back(quantized.proto(), layers, original.proto()), folder / _file(""))
        return read_given_back(quantized, folder)
    assert isinstance(original, Assembly), "parts are quantized to parts"
    mine = layers_by_part(layers)
    for name, part in quantized.parts.items():
        model = give_back(part.proto(), mine.get(name, set()), original.parts[name].proto())
        onnx.save(model, folder / _file(name))
    return read_given_back(quantized, folder)


def read_given_back(quantized: Shipped, folder: Path) -> Shipped:
    """What `given_back` wrote."""
    if isinstance(quantized, OnnxModel):
        return OnnxModel.read(folder / _file(""))
    return replace(quantized, parts={name: OnnxModel.read(folder / _file(name)) for name in quantized.parts})


def modules_of(original: Shipped) -> dict[str, str]:
    """Layer -> the module that it comes from."""
    parts = {"": original} if isinstance(original, OnnxModel) else original.parts
    return {
        in_part(name, layer): module
        for name, part in parts.items()
        for layer, module in module_names(part.proto()).items()
    }


def seconds_of(engine: Engine, model: Shipped, bench: Bench) -> dict[str, float]:
    """Layer -> seconds a call, as far as the runtime tells; of a model that writes a call is one step, or reading a prompt."""
    found = dict[str, float]()
    for name, times in _profiles(engine, bench).items():
        part = model if isinstance(model, OnnxModel) else model.parts[name]
        found |= {in_part(name, layer): seconds for layer, seconds in layer_seconds(times, part).items()}
    return found


def dragged(engine: Engine, model: Shipped, quantized: Collection[str], bench: Bench) -> set[str]:
    """Quantized layers that the runtime runs in float anyway."""
    found, mine = set[str](), {"": set(quantized)} if isinstance(model, OnnxModel) else layers_by_part(quantized)
    for name, times in _profiles(engine, bench).items():
        part = model if isinstance(model, OnnxModel) else model.parts[name]
        found |= {in_part(name, layer) for layer in in_float_anyway(times, mine.get(name, set()), part)}
    return found


def _profiles(engine: Engine, bench: Bench) -> dict[str, tuple[LayerTime, ...]]:
    """By part: of the encoder while it reads a prompt, of the decoder at one step."""
    if engine.generation is None:
        return {"": bench.layers(engine)}
    benchmark = bench.job.recipe.benchmark
    asked = timed(engine, bench.job.workload)
    calls = {call.part: call for call in calls_of(asked, benchmark.batch_sizes[0], bench.sizes)}
    return {
        name: layers_of(engine.parts[name], call.inputs, benchmark.threads, call.past) for name, call in calls.items()
    }


def has_dynamic_batch(original: Shipped) -> bool:
    """Whether several samples may go through at once."""
    parts = [original] if isinstance(original, OnnxModel) else original.parts.values()
    return all(spec.shape and isinstance(spec.shape[0], str) for part in parts for spec in part.inputs)


def _file(part: str) -> str:
    return f"{part}.onnx" if part else "model.onnx"
