"""A pruned model's real speed-up, measured while the prune step searches: exported, compiled, timed beside the original."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.latency import Protocol, measure
from benchmarks.profile import profile_of
from benchmarks.stability import crowded
from benchmarks.timings import Timings
from compress.bench_inputs import timing_pool
from compress.engines import compile_into, quantize_into
from compress.generation.assembly import Assembly, Shipped, main_part
from compress.generation.in_torch import specs_of
from compress.generation.parts import Writing
from compress.job import Job
from compress.measuring import PROMPT, TOKENS, timed
from compress.profile_inputs import calls_of, calls_of_parts
from compress.quantize import Quantize
from compress.recipe import Recipe
from compress.samples import calibration_of, samples_of
from compress.stages import ModelStage, export_model, export_part, fp32_engine
from compress.step import Arithmetic, Timed, TimedCall
from export.errors import UnsupportedError
from export.model import OnnxModel
from targets import FP32, Engine, Scheme, Target
from targets.generation import prompt_length

SECONDS = 1.5
"""Measuring time of each of the two engines for one candidate of the search."""
HALF_WIDTH = 0.02
"""Of a candidate's speed-up: the search goes by steps of channels, which change it by more."""
CALIBRATION = 32
"""Samples for the ranges of a candidate in INT8: how fast it is does not depend on them."""


@dataclass(frozen=True)
class Stopwatch:
    """The Speedup of a run: candidates are exported, compiled and timed beside the original.

    Raises (by `measure` and `time`):
        UnsupportedError: if the target is not in the recipe or cannot run here.
    """

    original: ModelStage
    job: Job
    beside: list[float] = field(default_factory=list)
    """Cores that other programs kept busy, for each engine measured."""

    def measure(self, model: nn.Module, on: str | None, arithmetic: Arithmetic) -> float:
        """How many times faster `model` runs than the original in FP32, at the recipe's first batch size.

        Of a model that writes whole answers are timed, through the parts of both.
        """
        target, benchmark = _timing_target(on, self.job.recipe), self.job.recipe.benchmark
        size, workload = benchmark.batch_sizes[0], self.job.workload
        with _compiled(model, target, arithmetic, self.job) as (candidate, _):
            original = fp32_engine(0, self.original, target, self.job)
            engines = {name: timed(each, workload) for name, each in (("original", original), ("candidate", candidate))}
            seconds = min(SECONDS, benchmark.seconds)
            protocol = Protocol(benchmark.threads, seconds, benchmark.processes, HALF_WIDTH, self.job.recipe.seed)
            pool = self._pool(size, {spec.name for spec in original.inputs} if workload.writing else None)
            measured = measure(engines, {size: pool}, protocol, track=self.job.show.track)
        self.beside.extend(each.timings[size].elsewhere_cores for each in measured.values())
        return faster(measured["candidate"].timings[size], measured["original"].timings[size])

    def time(self, model: nn.Module, on: str | None, arithmetic: Arithmetic) -> Timed:
        """What the runtime's profiler tells of `model`, at the recipe's first batch size.

        Of a model that writes: of its parts, as they are called while an answer is written.
        """
        target, threads = _timing_target(on, self.job.recipe), self.job.recipe.benchmark.threads
        inputs = self._pool(self.job.recipe.benchmark.batch_sizes[0])[0]
        with _compiled(model, target, arithmetic, self.job) as (engine, scheme):
            if self.job.workload.writing is None:
                calls = [TimedCall(model, _tensors(inputs), profile_of(engine, inputs, threads))]
            else:
                calls = self._calls(engine, self.job.workload.writing, model, prompt_length(inputs))
        return Timed(target, threads, tuple(calls), scheme)

    def crowded(self) -> str | None:
        """What to say of other programs that ran beside the measurements so far; None where hardly any did."""
        return crowded(self.beside)

    def _calls(self, engine: Engine, writing: Writing, model: nn.Module, prompt: int | None) -> list[TimedCall]:
        """What an answer to a prompt of so many tokens is made of; None: of a source that is no text."""
        parts, benchmark = writing.parts(model), self.job.recipe.benchmark
        length = {} if prompt is None else {PROMPT: prompt}
        told = benchmark.batch_sizes[0], {**length, **benchmark.sizes, TOKENS: writing.timed}
        in_torch = calls_of_parts({name: specs_of(part) for name, part in parts.items()}, writing.generation, *told)
        return [
            TimedCall(
                parts[call.part].module,
                _tensors({name: call.inputs[name] for name in parts[call.part].example_inputs}),
                profile_of(engine.parts[there.part], there.inputs, benchmark.threads, past=there.past),
                call.times,
            )
            for call, there in zip(in_torch, calls_of(engine, *told), strict=True)
        ]

    def _pool(self, size: int, names: Collection[str] | None = None) -> list[dict[str, np.ndarray]]:
        """Inputs at a batch size: all of the workload's, or those of these names."""
        workload = self.job.workload
        assert workload.validation is not None, "load_workload gives every workload a validation set"
        return timing_pool(workload, self.job.recipe.benchmark, size, samples_of(workload.validation), names)


def faster(candidate: Timings, original: Timings) -> float:
    """How many times faster a candidate is, over the blocks in which nobody disturbed either.

    Where most were disturbed, CPU time tells: another process on the same core cuts into most of the long calls and into few
    of the short ones. A network that is 3.2 times as fast as its original looked 4.2 to 6.7 times as fast in wall time, 3.6 to 4.1 times by
    its fastest calls, and 2.6 to 3.1 times in CPU time: too slow, if anything, so that the search cuts enough.
    """
    if candidate.under_load or original.under_load:
        candidate, original = (replace(each, blocks_s=each.cpu_s) for each in (candidate, original))
    return candidate.faster_than(original).value


def _tensors(inputs: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array.copy()) for name, array in inputs.items()}


@contextmanager
def _compiled(model: nn.Module, target: Target, arithmetic: Arithmetic, job: Job) -> Iterator[tuple[Engine, Scheme]]:
    """The model on a target, one that writes in its parts, in a folder that goes afterwards."""
    with tempfile.TemporaryDirectory(prefix="compress-") as name:
        folder = Path(name)
        for place in ("engine", "quantized"):
            (folder / place).mkdir()
        exported = _exported(model, folder, job)
        scheme = FP32 if arithmetic == "fp32" else _int8(target, main_part(exported), job.recipe)
        if scheme != FP32:
            calibration = calibration_of(job.workload, CALIBRATION)
            exported = quantize_into(folder / "quantized", exported, scheme, calibration)
        yield compile_into(folder / "engine", exported, target, scheme), scheme


def _exported(model: nn.Module, folder: Path, job: Job) -> Shipped:
    writing = job.workload.writing
    if writing is None:
        return export_model(model, folder / "model.onnx", job)
    parts = writing.parts(model)
    return Assembly(
        {name: export_part(part, folder / f"{name}.onnx", job) for name, part in parts.items()}, writing.generation
    )


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
