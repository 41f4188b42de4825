"""The quantization half of `compress sensitivity`: one layer at a time in the precision of each scheme that the targets offer."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.sensitivity import LayerCost, Section, ranked
from compress.accuracy_control.layer_names import module_names
from compress.accuracy_control.layer_switch import LayerSwitch
from compress.accuracy_control.quantized_graph import WEIGHTED
from compress.quantize import Quantize
from compress.quantize.model import quantize_model
from compress.recipe import Recipe
from compress.samples import calibration_of
from compress.sensitivity.probe import Probe
from compress.show import Show
from compress.workload import Workload, to_numpy
from export.errors import QualityError, UnsupportedError
from export.model import OnnxModel
from targets import FP32, Scheme, Target

CALIBRATION_SAMPLES = 64
"""At most: the ranges need not be as good as those that ship."""


def quantized_sections(
    recipe: Recipe,
    targets: Sequence[Target],
    workload: Workload,
    model: OnnxModel,
    probe: Probe,
    folder: Path,
    show: Show,
) -> tuple[list[Section], list[str]]:
    """A section for each scheme that differs from the others by more than its name, and why others have none."""
    sections: list[Section] = []
    notes: list[str] = []
    wanted = (recipe.quantize or Quantize()).calibration_samples
    calibration = calibration_of(workload, min(CALIBRATION_SAMPLES, wanted))
    for number, (title, scheme) in enumerate(_schemes(recipe, targets, model).items()):
        if scheme.quantizer == "none":
            notes.append(f"{title}: a precision of the whole model, not of a layer: `compress run` tries it")
            continue
        try:
            quantized = quantize_model(model, calibration, scheme, folder / f"{number}.onnx")
        except (UnsupportedError, QualityError) as error:
            notes.append(f"{title}: {error}")
            continue
        costs = _costs(quantized, model, probe, title, show)
        if costs:
            sections.append(Section(f"{title}: one layer alone quantized", ranked(costs)))
        else:
            notes.append(f"{title}: quantizes no product of its own")
    return sections, notes


def _costs(quantized: OnnxModel, model: OnnxModel, probe: Probe, title: str, show: Show) -> list[LayerCost]:
    """Against torch, whose float answers the exported model gives within its parity."""
    original = model.proto()
    switch = LayerSwitch(quantized.proto(), original, threads=os.cpu_count() or 1)
    names = module_names(original)
    arrays = [to_numpy(inputs) for inputs, _ in probe.batches]
    in_float = replace(probe, outputs=switch.outputs(arrays, ()))
    layers = [layer for layer in switch.layers if switch.operators[layer] in (*WEIGHTED, "LSTM")]
    shown = show.track(layers, f"{title}: one layer at a time", len(layers))
    return [
        in_float.cost(names.get(layer, layer), switch.operators[layer], switch.outputs(arrays, {layer}))
        for layer in shown
    ]


def _schemes(recipe: Recipe, targets: Sequence[Target], model: OnnxModel) -> Mapping[str, Scheme]:
    """Title -> scheme; equal ones of several targets once, under all their names.

    Rounding for the layer's output and correcting biases are left out: they take minutes, and mend what is looked for here.
    """
    found: dict[Scheme, list[str]] = {}
    for target in targets:
        for scheme in (recipe.quantize or Quantize()).chosen(target, model):
            if scheme != FP32:
                plain = replace(scheme, name="sensitivity", why="", adaround=False, bias_correction=False)
                found.setdefault(plain, []).append(f"{target.name} {scheme.name}")
    return {", ".join(names): scheme for scheme, names in found.items()}
