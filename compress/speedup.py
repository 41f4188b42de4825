"""A pruned model's real speed-up, measured while the prune step searches: exported, compiled, timed beside the original."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.latency import Protocol, measure
from benchmarks.profile import profile_of
from compress.bench_inputs import timing_pool
from compress.job import Job
from compress.recipe import Recipe
from compress.samples import samples_of
from compress.stages import ModelStage, export_model, fp32_engine
from compress.step import Timed
from export.errors import UnsupportedError
from targets import FP32, Engine, Target

SECONDS = 1.5
"""Measuring time of each of the two engines for one candidate of the search."""
HALF_WIDTH = 0.02
"""Of a candidate's speed-up: the search goes by steps of channels, which change it by more."""


@dataclass(frozen=True)
class Stopwatch:
    """The Speedup of a run: candidates are exported, compiled and timed beside the original.

    Raises (by both methods):
        UnsupportedError: if the target is not in the recipe or cannot run here.
    """

    original: ModelStage
    job: Job

    def measure(self, model: nn.Module, on: str | None) -> float:
        """How many times faster `model` runs than the original, both in FP32, at the recipe's first batch size."""
        target, benchmark = _timing_target(on, self.job.recipe), self.job.recipe.benchmark
        size = benchmark.batch_sizes[0]
        with _compiled(model, target, self.job) as candidate:
            engines = {"original": fp32_engine(0, self.original, target, self.job), "candidate": candidate}
            seconds = min(SECONDS, benchmark.seconds)
            protocol = Protocol(benchmark.threads, seconds, benchmark.processes, HALF_WIDTH, self.job.recipe.seed)
            measured = measure(engines, {size: self._pool(size)}, protocol, track=self.job.show.track)
        return measured["candidate"].timings[size].faster_than(measured["original"].timings[size]).value

    def time(self, model: nn.Module, on: str | None) -> Timed:
        """What the runtime's profiler tells of `model`, at the recipe's first batch size."""
        target, benchmark = _timing_target(on, self.job.recipe), self.job.recipe.benchmark
        inputs = self._pool(benchmark.batch_sizes[0])[0]
        with _compiled(model, target, self.job) as engine:
            profile = profile_of(engine, inputs, benchmark.threads)
        tensors = {name: torch.from_numpy(array.copy()) for name, array in inputs.items()}
        return Timed(target, benchmark.threads, tensors, profile)

    def _pool(self, size: int) -> list[dict[str, np.ndarray]]:
        workload = self.job.workload
        assert workload.validation is not None, "load_workload gives every workload a validation set"
        return timing_pool(workload, self.job.recipe.benchmark, size, samples_of(workload.validation))


@contextmanager
def _compiled(model: nn.Module, target: Target, job: Job) -> Iterator[Engine]:
    """The model in FP32 on a target, in a folder that goes afterwards."""
    with tempfile.TemporaryDirectory(prefix="compress-") as name:
        folder = Path(name)
        (folder / "engine").mkdir()
        yield target.compile(export_model(model, folder / "model.onnx", job), FP32, folder / "engine")


def _timing_target(on: str | None, recipe: Recipe) -> Target:
    runnable = [target for target in recipe.targets if target.unavailable() is None and target.cannot_run() is None]
    chosen = [target for target in runnable if on in (None, target.name)]
    if chosen:
        return chosen[0]
    names = ", ".join(target.name for target in runnable) or "none of the recipe's targets"
    raise UnsupportedError(
        f"prune: cannot measure a speed-up on {on or 'any target'} here; runs here: {names}. Use macs_ratio instead"
    )
