"""A pruned model's real speed-up, measured while the prune step searches: exported, compiled, timed beside the original."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.latency import Protocol, measure
from benchmarks.profile import profile_of
from benchmarks.timings import Timings
from compress.bench_inputs import timing_pool
from compress.job import Job
from compress.quantize import Quantize
from compress.quantize.model import quantize_model
from compress.recipe import Recipe
from compress.samples import calibration_of, samples_of
from compress.stages import ModelStage, export_model, fp32_engine
from compress.step import Arithmetic, Timed
from export.errors import UnsupportedError
from export.model import OnnxModel
from targets import FP32, Engine, Scheme, Target

SECONDS = 1.5
"""Measuring time of each of the two engines for one candidate of the search."""
HALF_WIDTH = 0.02
"""Of a candidate's speed-up: the search goes by steps of channels, which change it by more."""
FASTEST = 0.05
"""Share of the calls that are taken for undisturbed where hardly a block was."""
CALIBRATION = 32
"""Samples for the ranges of a candidate in INT8: how fast it is does not depend on them."""


@dataclass(frozen=True)
class Stopwatch:
    """The Speedup of a run: candidates are exported, compiled and timed beside the original.

    Raises (by both methods):
        UnsupportedError: if the target is not in the recipe or cannot run here.
    """

    original: ModelStage
    job: Job

    def measure(self, model: nn.Module, on: str | None, arithmetic: Arithmetic) -> float:
        """How many times faster `model` runs than the original in FP32, at the recipe's first batch size."""
        target, benchmark = _timing_target(on, self.job.recipe), self.job.recipe.benchmark
        size = benchmark.batch_sizes[0]
        with _compiled(model, target, arithmetic, self.job) as (candidate, _):
            engines = {"original": fp32_engine(0, self.original, target, self.job), "candidate": candidate}
            seconds = min(SECONDS, benchmark.seconds)
            protocol = Protocol(benchmark.threads, seconds, benchmark.processes, HALF_WIDTH, self.job.recipe.seed)
            measured = measure(engines, {size: self._pool(size)}, protocol, track=self.job.show.track)
        return faster(measured["candidate"].timings[size], measured["original"].timings[size])

    def time(self, model: nn.Module, on: str | None, arithmetic: Arithmetic) -> Timed:
        """What the runtime's profiler tells of `model`, at the recipe's first batch size."""
        target, benchmark = _timing_target(on, self.job.recipe), self.job.recipe.benchmark
        inputs = self._pool(benchmark.batch_sizes[0])[0]
        with _compiled(model, target, arithmetic, self.job) as (engine, scheme):
            profile = profile_of(engine, inputs, benchmark.threads)
        tensors = {name: torch.from_numpy(array.copy()) for name, array in inputs.items()}
        return Timed(target, benchmark.threads, tensors, profile, scheme)

    def _pool(self, size: int) -> list[dict[str, np.ndarray]]:
        workload = self.job.workload
        assert workload.validation is not None, "load_workload gives every workload a validation set"
        return timing_pool(workload, self.job.recipe.benchmark, size, samples_of(workload.validation))


def faster(candidate: Timings, original: Timings) -> float:
    """How many times faster a candidate is, over the blocks in which nobody disturbed either.

    Where most were disturbed, medians mislead: another process cuts into most of the long calls and into few of the short
    ones, which made ResNet-56's INT8 look 9 times as fast as its FP32, not 2.4. The fastest calls, cut into by nobody, tell then.
    """
    if not (candidate.under_load or original.under_load):
        return candidate.faster_than(original).value
    return float(np.quantile(original.calls_s, FASTEST) / np.quantile(candidate.calls_s, FASTEST))


@contextmanager
def _compiled(model: nn.Module, target: Target, arithmetic: Arithmetic, job: Job) -> Iterator[tuple[Engine, Scheme]]:
    """The model on a target, in a folder that goes afterwards."""
    with tempfile.TemporaryDirectory(prefix="compress-") as name:
        folder = Path(name)
        (folder / "engine").mkdir()
        exported = export_model(model, folder / "model.onnx", job)
        scheme = FP32 if arithmetic == "fp32" else _int8(target, exported, job.recipe)
        if scheme != FP32:
            exported = quantize_model(
                exported, calibration_of(job.workload, CALIBRATION), scheme, folder / "quantized.onnx"
            )
        yield target.compile(exported, scheme, folder / "engine"), scheme


def _int8(target: Target, model: OnnxModel, recipe: Recipe) -> Scheme:
    """The first INT8 scheme that the recipe would try, without the work that changes its accuracy alone."""
    for scheme in (recipe.quantize or Quantize()).chosen(target, model):
        if scheme.quantizer != "none" and scheme.mode != "weights" and scheme.precision in ("int8", "int4"):
            return replace(scheme, bias_correction=False, adaround=False)
    raise UnsupportedError(
        f"prune: precision: int8: {target.name} tries no INT8 scheme on this model; leave precision out, or let "
        "quantize.schemes name one"
    )


def _timing_target(on: str | None, recipe: Recipe) -> Target:
    runnable = [target for target in recipe.targets if target.unavailable() is None and target.cannot_run() is None]
    chosen = [target for target in runnable if on in (None, target.name)]
    if chosen:
        return chosen[0]
    names = ", ".join(target.name for target in runnable) or "none of the recipe's targets"
    raise UnsupportedError(
        f"prune: cannot measure a speed-up on {on or 'any target'} here; runs here: {names}. Use macs_ratio instead"
    )
