"""Bench: what one run measures with. Its data and settings, and every score, latency and throughput taken with them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from benchmarks.accuracy import AccuracyRun, score, statistics_of
from benchmarks.answers import Answers, answers_from, answers_of
from benchmarks.latency import Measured, Pool, Protocol, measure
from benchmarks.machine import usable_cores
from benchmarks.measurements import Latency, Throughput
from benchmarks.profile import layers_of
from benchmarks.report import Score
from compress.bench_inputs import timing_pool
from compress.job import Job
from compress.recipe_settings import Budget
from compress.samples import Calibration, Split, samples_of
from compress.stages import ModelStage
from compress.workload import Workload
from targets import Engine, LayerTime, Scheme, load
from targets.generation import Generation, prompt_length
from targets.generation.session import writing
from targets.torch_reference import TorchReference

PROMPT, TOKENS = "length", "tokens"
"""Of a working point of a model that writes: the axis of its prompts' length, and how many tokens it writes."""
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
    answers: dict[Path, Mapping[int, Answers]] = field(default_factory=dict)
    """Of engines that were asked for them apart from an accuracy run."""

    @property
    def final(self) -> ModelStage:
        return self.stages[-1]

    @property
    def validation_budget(self) -> Budget:
        """What the choices made on validation data are held to: what the metric may lose there is in its own unit."""
        job = self.job
        return job.recipe.budget.against(job.workload.judge.value(self.validation_rows))

    @cached_property
    def pools(self) -> dict[int, Pool]:
        """The inputs of the timing by batch size, from validation samples."""
        benchmark, samples = self.job.recipe.benchmark, self.validation.batches
        names = {spec.name for spec in self.reference.inputs}
        return {
            size: timing_pool(self.job.workload, benchmark, size, samples_of(samples), names)
            for size in benchmark.batch_sizes
        }

    def _answers(self, engine: Engine) -> Mapping[int, Answers] | None:
        """What an engine answered untimed to the inputs of the timing; None if it was not asked.

        The torch original is scored as a module, so its saved program answers apart: in this process, which has torch already,
        for a new one takes longer to import it than to answer. Models that write are asked again, in a process of their
        own: what is timed of them is another request than what is scored.
        """
        scored = next((run.answers for (path, _), run in self.runs.items() if path == engine.path), None)
        if scored is not None and engine.generation is None:
            return scored
        if scored is None and engine.path != self.reference.path:
            return None
        if engine.path not in self.answers:
            threads = self.job.recipe.benchmark.threads
            if engine.path == self.reference.path:
                with _torch_threads(threads), load(TorchReference(), engine, threads) as session:
                    self.answers[engine.path] = {size: answers_from(session, pool) for size, pool in self.pools.items()}
            else:
                self.answers[engine.path] = {
                    size: answers_of(engine, pool, threads) for size, pool in self.pools.items()
                }
        return self.answers[engine.path]

    def rows(self, engine: Engine, one_by_one: bool, split: Split) -> np.ndarray:
        """The metric's statistics of an engine on a split, shape (samples, k)."""
        memo = (engine.path, split.name)
        if memo not in self.runs:
            self.runs[memo] = statistics_of(
                scored(engine, self.job.workload),
                split,
                self.job.workload.judge,
                threads=os.cpu_count() or 1,
                one_by_one=one_by_one,
                pools=None if engine.generation else self.pools,
                track=self.job.show.track,
                total=split.number_of_batches,
            )
        return self.runs[memo].rows

    def score(self, engine: Engine, scheme: Scheme, split: Split) -> Score:
        """The metric through an engine, paired with the original in torch."""
        rows, workload = self.rows(engine, scheme.mode == "dynamic", split), self.job.workload
        original = self.validation_rows if split is self.validation else self.evaluation_rows
        return score(workload.judge, rows, original, split.name, workload.class_names)

    def time(
        self,
        engines: Mapping[str, Engine],
        control: str | None = None,
        pairs: Iterable[tuple[str, str]] | None = None,
    ) -> dict[str, Measured]:
        """Latency of the engines against each other; answers are held against those of their accuracy runs."""
        engines = {name: timed(engine, self.job.workload) for name, engine in engines.items()}
        known = {name: self._answers(engine) for name, engine in engines.items()}
        expected = {name: answers for name, answers in known.items() if answers is not None}
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
        protocol = self._protocol()
        protocol = Protocol(
            usable_cores(),
            THROUGHPUT_SHARE * protocol.seconds,
            protocol.processes,
            protocol.half_width,
            protocol.seed,
            "throughput",
        )
        engines = {name: timed(engine, self.job.workload) for name, engine in (("fp32", fp32), ("other", other))}
        measured = measure(engines, {size: pool}, protocol, track=self.job.show.track)
        before, after = (measured[name].timings[size] for name in ("fp32", "other"))
        return before.throughput(), after.throughput(before)

    def layers(self, engine: Engine) -> tuple[LayerTime, ...]:
        """Where one inference's time goes, at the first batch size; empty where the runtime does not tell.

        An answer of many calls to several parts has no such profile.
        """
        if engine.generation is not None:
            return ()
        [pool, *_] = self.pools.values()
        return layers_of(engine, pool[0], self.job.recipe.benchmark.threads)

    def latencies(self, mine: Measured, fp32: Measured, torch: Measured | None) -> tuple[Latency, ...]:
        """As the report holds them, with ratios to the original on the same runtime and in torch."""
        return tuple(
            timings.latency(
                self.sizes,
                over_torch=torch.timings[size] if torch else None,
                over_fp32=None if mine is fp32 else fp32.timings[size],
            )
            for size, timings in mine.timings.items()
        )

    def writing_latencies(self, original: Engine, ships: Engine) -> tuple[tuple[Latency, ...], tuple[Latency, ...]]:
        """The first token and the whole answer at every prompt length, of the original in FP32 and of what ships.

        Of a model that writes of pictures or sound: at the one point that it has. Empty for models that do not write. The
        whole answer at the first length is what `time` measures.
        """
        if original.generation is None:
            return (), ()
        found: dict[str, list[Latency]] = {"original": [], "ships": []}
        main = self.sizes.get(PROMPT)
        for length in dict.fromkeys((main, *self.job.recipe.benchmark.lengths)):
            tokens = [1] if length == main else [1, self.sizes[TOKENS]]
            for written in tokens:
                sizes = {**self.sizes, **({} if length is None else {PROMPT: length}), TOKENS: written}
                engines = {
                    name: writing(timed(each, self.job.workload), new_tokens=written)
                    for name, each in (("original", original), ("ships", ships))
                }
                measured = measure(engines, self._pools_at(length), self._protocol(), track=self.job.show.track)
                for name, each in measured.items():
                    over = None if name == "original" else measured["original"].timings
                    found[name] += [
                        timings.latency(sizes, over_fp32=over[size] if over else None)
                        for size, timings in each.timings.items()
                    ]
        return tuple(found["original"]), tuple(found["ships"])

    def unlike_torch(self, engine: Engine) -> str | None:
        """A sentence if an engine of the original in FP32 does not write, token by token, what torch writes."""
        mine, reference = self._answers(engine), self._answers(self.reference)
        if engine.generation is None or mine is None or reference is None:
            return None
        pairs = [pair for size in reference for pair in zip(mine[size], reference[size], strict=True)]
        unlike = sum(any(not np.array_equal(a[name], b[name]) for name in b) for a, b in pairs)
        if not unlike:
            return None
        return (
            f"the original in FP32 writes other tokens than in torch for {unlike} of {len(pairs)} prompts; two tokens that are "
            "equally likely to the last digits do that, a wrong operator does it to most prompts"
        )

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The working point besides the batch: of a model that writes, the tokens of its prompt and of its answer."""
        sizes, told = dict(self.job.recipe.benchmark.sizes), self.job.workload.writing
        if told is None:
            return sizes
        [pool, *_] = self.pools.values()
        length = prompt_length(pool[0])
        return {**({} if length is None else {PROMPT: length}), **sizes, TOKENS: told.timed}

    def _pools_at(self, length: int | None) -> Mapping[int, Pool]:
        """Pools of prompts of one length; of sources that have none the pools that there are."""
        if length is None:
            return self.pools
        benchmark = self.job.recipe.benchmark
        names = {spec.name for spec in self.reference.inputs}
        benchmark = replace(benchmark, sizes={**benchmark.sizes, PROMPT: length})
        samples = self.validation.batches
        return {
            size: timing_pool(self.job.workload, benchmark, size, samples_of(samples), names)
            for size in benchmark.batch_sizes
        }

    def _protocol(self) -> Protocol:
        benchmark = self.job.recipe.benchmark
        return Protocol(
            benchmark.threads, benchmark.seconds, benchmark.processes, benchmark.half_width, self.job.recipe.seed
        )


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    """Torch on so many threads, and on as many as before afterwards: sums are rounded as where it is timed."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        yield
    finally:
        torch.set_num_threads(before)


def scored(engine: Engine, workload: Workload) -> Engine:
    """The engine as its metric reads it: a model that writes is asked for text, or for the logits of given tokens."""
    if engine.generation is None:
        return engine
    return writing(engine, mode=answering(engine.generation, workload).mode)


def answering(generation: Generation, workload: Workload) -> Generation:
    """The way of writing that the metric judges: text, or the logits of given tokens."""
    judges_text = workload.writing is not None and workload.writing.metric is not None
    return replace(generation, mode="write" if judges_text else "score")


def timed(engine: Engine, workload: Workload) -> Engine:
    """The engine as it is timed: every answer has the same number of tokens, so that all engines do the same work."""
    if engine.generation is None or workload.writing is None:
        return engine
    return writing(engine, mode="write", stops=False, new_tokens=workload.writing.timed)
