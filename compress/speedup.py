"""A pruned model's real speed-up, measured while the prune step searches: exported, compiled, timed beside the original."""

from __future__ import annotations

import tempfile
from pathlib import Path

from torch import nn

from benchmarks.latency import Protocol, measure
from compress.bench_inputs import timing_pool
from compress.job import Job
from compress.recipe import Recipe
from compress.samples import samples_of
from compress.stages import ModelStage, export_model, fp32_engine
from export.errors import UnsupportedError
from targets import FP32, Target

SECONDS = 1.5
"""Measuring time of each of the two engines for one candidate of the search."""
HALF_WIDTH = 0.02
"""Of a candidate's speed-up: the search goes by steps of channels, which change it by more."""


def measured_speedup(model: nn.Module, on: str | None, original: ModelStage, job: Job) -> float:
    """How many times faster `model` runs than the original, both in FP32 on a target of the recipe.

    Args:
        on: the target's name; None takes the first of the recipe that runs here.

    Raises:
        UnsupportedError: if the target is not in the recipe or cannot run here.
    """
    target = _timing_target(on, job.recipe)
    assert job.workload.validation is not None, "load_workload gives every workload a validation set"
    benchmark = job.recipe.benchmark
    size = benchmark.batch_sizes[0]
    with tempfile.TemporaryDirectory(prefix="compress-") as name:
        folder = Path(name)
        (folder / "engine").mkdir()
        engines = {
            "original": fp32_engine(0, original, target, job),
            "candidate": target.compile(export_model(model, folder / "model.onnx", job), FP32, folder / "engine"),
        }
        seconds = min(SECONDS, benchmark.seconds)
        protocol = Protocol(benchmark.threads, seconds, benchmark.processes, HALF_WIDTH, job.recipe.seed)
        pool = timing_pool(job.workload, benchmark, size, samples_of(job.workload.validation))
        measured = measure(engines, {size: pool}, protocol, track=job.show.track)
    return measured["candidate"].timings[size].faster_than(measured["original"].timings[size]).value


def _timing_target(on: str | None, recipe: Recipe) -> Target:
    runnable = [target for target in recipe.targets if target.unavailable() is None and target.cannot_run() is None]
    chosen = [target for target in runnable if on in (None, target.name)]
    if chosen:
        return chosen[0]
    names = ", ".join(target.name for target in runnable) or "none of the recipe's targets"
    raise UnsupportedError(
        f"prune: cannot measure a speed-up on {on or 'any target'} here; runs here: {names}. Use macs_ratio instead"
    )
