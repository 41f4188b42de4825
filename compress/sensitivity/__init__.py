"""`compress sensitivity`: what each layer costs when it alone is pruned or quantized, before any work starts."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.sensitivity import Section, Sensitivity, ranked
from compress.bench_inputs import check_sizes
from compress.load_workload import load_workload
from compress.preflight import usable_targets
from compress.recipe import load_recipe
from compress.sensitivity.probe import Probe
from compress.sensitivity.pruning import Prunable
from compress.sensitivity.quantized import quantized_sections
from compress.show import Quiet, Show
from compress.workload import Workload
from export.errors import InputError, UnsupportedError
from export.to_onnx import to_onnx

SAMPLES = 128
"""Validation samples that the layers are ranked on."""
SHARES = {"a quarter": 0.25, "half": 0.5}


def sensitivity(
    recipe_path: Path, overrides: Sequence[str] = (), samples: int = SAMPLES, show: Show | None = None
) -> Sensitivity:
    """Rank every layer of a recipe's original model, for pruning and for each quantized scheme of its targets.

    Raises:
        CompressError: for what is wrong with the recipe, the workload or the model.
    """
    started, show = time.monotonic(), show or Quiet()
    if samples < 2:
        raise InputError(f"compress sensitivity: --samples must be 2 or more, found {samples}")
    recipe = load_recipe(recipe_path, overrides)
    targets, notes = usable_targets(recipe, skip_unavailable=True)
    workload = load_workload(recipe)
    check_sizes(workload, recipe.benchmark)
    workload.model.eval()
    show.expect(2)
    with tempfile.TemporaryDirectory(prefix="compress-sensitivity-") as name:
        folder = Path(name)
        with show.unit("pruning"):
            probe = Probe.of(workload, samples)
            pruned, left_out = _pruned_sections(workload, probe, show)
        with show.unit("quantization"):
            onnx = to_onnx(
                workload.model,
                workload.example_inputs,
                workload.dynamic_axes,
                workload.output_names,
                folder / "model.onnx",
                recipe.export.opset,
            )
            quantized, more = quantized_sections(recipe, targets, workload, onnx, probe, folder, show)
    return Sensitivity(
        name=recipe.name,
        metric=workload.metric.name,
        metric_value=workload.metric.value(probe.rows),
        samples=len(probe.rows),
        sections=(*pruned, *quantized),
        notes=(*notes, *left_out, *more),
        duration_s=time.monotonic() - started,
    )


def _pruned_sections(workload: Workload, probe: Probe, show: Show) -> tuple[list[Section], list[str]]:
    try:
        prunable = Prunable.of(workload)
    except UnsupportedError as error:
        return [], [f"pruning: {error}"]
    if not prunable.families:
        return [], ["pruning: no layer has channels that can go"]
    return [
        Section(f"Pruning: {words} of one layer's channels", ranked(prunable.costs(probe, words, share, show.track)))
        for words, share in SHARES.items()
    ], []
