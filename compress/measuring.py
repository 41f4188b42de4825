"""Bench: what one run measures with. Its data and settings, and every score, latency and throughput taken with them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.accuracy import AccuracyRun, score, statistics_of
from benchmarks.answers import Answers, answers_of
from benchmarks.latency import Measured, Pool, Protocol, measure
from benchmarks.measurements import Latency, Throughput
from benchmarks.profile import layers_of
from benchmarks.report import Score
from compress.bench_inputs import timing_pool
from compress.job import Job
from compress.recipe import Budget
from compress.samples import Calibration, Split, samples_of
from compress.stages import ModelStage
from targets import Engine, LayerTime, Scheme

THROUGHPUT_SHARE = 0.5
"""Of the time that latency gets: a block of many calls at once varies less than a single call."""


@dataclass(frozen=True)
class Bench:
    """What every target's deployment works from; the same for all of them.

    Args:
        stages: the original first, the final model last.
        reference: the engine of the original in torch.
        validation_rows, evaluation_rows: the metric's per-sample statistics of the original in torch.
        calibration_key: stands for the calibration samples.
    """

    job: Job
    stages: Sequence[ModelStage]
    reference: Engine
    validation: Split
    evaluation: Split
    validation_rows: np.ndarray
    evaluation_rows: np.ndarray
    calibration: Calibration
    calibration_key: str
    calibration_samples: int
    runs: dict[tuple[Path, str], AccuracyRun] = field(default_factory=dict)
    """Accuracy runs already made, by engine and split: an engine's answers do not change."""

    @property
    def final(self) -> ModelStage:
        return self.stages[-1]

    @property
    def validation_budget(self) -> Budget:
        """What the choices made on validation data are held to: what the metric may lose there is in its own unit."""
        job = self.job
        return job.recipe.budget.against(job.workload.metric.value(self.validation_rows))

    @cached_property
    def pools(self) -> dict[int, Pool]:
        """The inputs of the timing by batch size, from validation samples."""
        benchmark, samples = self.job.recipe.benchmark, self.validation.batches
        return {
            size: timing_pool(self.job.workload, benchmark, size, samples_of(samples)) for size in benchmark.batch_sizes
        }

    @cached_property
    def _reference_answers(self) -> dict[int, Answers]:
        """The torch original is scored in this process; its saved program answers the timing's inputs in one of its own."""
        threads = self.job.recipe.benchmark.threads
        return {size: answers_of(self.reference, pool, threads) for size, pool in self.pools.items()}

    def rows(self, engine: Engine, one_by_one: bool, split: Split) -> np.ndarray:
        """The metric's statistics of an engine on a split, shape (samples, k)."""
        memo = (engine.path, split.name)
        if memo not in self.runs:
            self.runs[memo] = statistics_of(
                engine,
                split,
                self.job.workload.metric,
                threads=os.cpu_count() or 1,
                one_by_one=one_by_one,
                pools=self.pools,
                track=self.job.show.track,
                total=split.number_of_batches,
            )
        return self.runs[memo].rows

    def score(self, engine: Engine, scheme: Scheme, split: Split) -> Score:
        """The metric through an engine, paired with the original in torch."""
        rows, workload = self.rows(engine, scheme.mode == "dynamic", split), self.job.workload
        original = self.validation_rows if split is self.validation else self.evaluation_rows
        return score(workload.metric, rows, original, split.name, workload.class_names)

    def time(
        self,
        engines: Mapping[str, Engine],
        control: str | None = None,
        pairs: Iterable[tuple[str, str]] | None = None,
    ) -> dict[str, Measured]:
        """Latency of the engines against each other; answers are held against those of their accuracy runs."""
        answers = {path: run.answers for (path, _), run in self.runs.items()}
        if self.reference.path not in answers and self.reference in engines.values():
            answers[self.reference.path] = self._reference_answers
        expected = {name: answers[engine.path] for name, engine in engines.items() if engine.path in answers}
        return measure(
            engines,
            self.pools,
            self._protocol(),
            control=control,
            pairs=pairs,
            expected=expected,
            track=self.job.show.track,
        )

    def throughput(self, fp32: Engine, other: Engine) -> tuple[Throughput, Throughput]:
        """Requests under way at once on all cores, of the original in FP32 and of another engine beside it."""
        [(size, pool), *_] = self.pools.items()
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        protocol = self._protocol()
        protocol = Protocol(
            cores,
            THROUGHPUT_SHARE * protocol.seconds,
            protocol.processes,
            protocol.half_width,
            protocol.seed,
            "throughput",
        )
        measured = measure({"fp32": fp32, "other": other}, {size: pool}, protocol, track=self.job.show.track)
        before, after = (measured[name].timings[size] for name in ("fp32", "other"))
        return before.throughput(), after.throughput(before)

    def layers(self, engine: Engine) -> tuple[LayerTime, ...]:
        """Where one inference's time goes, at the first batch size; empty where the runtime does not tell."""
        [pool, *_] = self.pools.values()
        return layers_of(engine, pool[0], self.job.recipe.benchmark.threads)

    def latencies(self, mine: Measured, fp32: Measured, torch: Measured | None) -> tuple[Latency, ...]:
        """As the report holds them, with ratios to the original on the same runtime and in torch."""
        return tuple(
            timings.latency(
                self.job.recipe.benchmark.sizes,
                over_torch=torch.timings[size] if torch else None,
                over_fp32=None if mine is fp32 else fp32.timings[size],
            )
            for size, timings in mine.timings.items()
        )

    def _protocol(self) -> Protocol:
        benchmark = self.job.recipe.benchmark
        return Protocol(
            benchmark.threads, benchmark.seconds, benchmark.processes, benchmark.half_width, self.job.recipe.seed
        )
