"""Latency and throughput of several engines, interleaved: blocks of calls in random order, each round holds each once."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from benchmarks.answers import Answers, answers_of, remembered, wrong_answers
from benchmarks.measurements import Footprint
from benchmarks.timings import MIN_ROUNDS, Timings
from benchmarks.worker import Answer, Block, Worker
from export.progress import Track, silent
from targets import Engine

BLOCK_S = 0.06
"""A block long enough that the clock and the exchange with the worker are nothing, short enough to interleave finely."""
WARMUP_S = 0.2
MIN_REPEATS = 2
"""Inputs at least that a process is given twice, however long a call takes."""
CONTROL = "control"
"""Name in the result of the reference measured a second time against itself."""

Pool = Sequence[Mapping[str, np.ndarray]]
"""Distinct inputs of equal shapes; timed calls run on variations of them that no engine has seen."""


@dataclass(frozen=True)
class Protocol:
    """How to measure.

    Args:
        threads: of each runtime; in throughput mode the cores that it may use.
        seconds: each engine's measuring time at each batch size, at most, over all its processes.
        processes: fresh processes of each engine, at least; twice as many at most.
        half_width: of the 95 % interval of the ratios asked for, relative; when they all reach it measuring stops.
        mode: seconds of a call by itself, or seconds of wall time per call with several under way at once.
    """

    threads: int = 1
    seconds: float = 6.0
    processes: int = 5
    half_width: float = 0.01
    seed: int = 0
    mode: Literal["latency", "throughput"] = "latency"

    @property
    def most_processes(self) -> int:
        return 2 * self.processes

    @property
    def slice_s(self) -> float:
        """Measuring time of an engine in one process."""
        return self.seconds / self.most_processes


@dataclass(frozen=True)
class Measured:
    """One engine's timings by batch size, its footprint in a fresh process, and what is wrong with its answers."""

    timings: Mapping[int, Timings]
    footprint: Footprint
    findings: tuple[str, ...] = ()


@dataclass
class _Record:
    """What has been measured of one engine so far, by batch size."""

    blocks: dict[int, list[list[Block]]] = field(default_factory=lambda: defaultdict(list))
    new_s: list[float] = field(default_factory=list)
    repeated_s: list[float] = field(default_factory=list)
    pairs: int = 0
    footprints: list[Footprint] = field(default_factory=list)
    requests: int = 1


def measure(
    engines: Mapping[str, Engine],
    inputs: Mapping[int, Pool],
    protocol: Protocol,
    *,
    control: str | None = None,
    pairs: Iterable[tuple[str, str]] | None = None,
    expected: Mapping[str, Mapping[int, Answers]] | None = None,
    track: Track = silent,
) -> dict[str, Measured]:
    """Time all engines against each other.

    Measuring goes on in fresh processes until the ratios of `pairs` are as narrow as the protocol asks and the
    reference against itself covers 1.0, or until the time is up; never because a ratio looks good.

    Args:
        engines: by the name they have in the result.
        inputs: for each batch size the pool to run on, the same for every engine.
        control: the engine that is measured twice, against itself: the A/A row, named CONTROL in the result.
        pairs: names of the engines whose ratios decide when to stop; by default each against the first.
        expected: the answers of the accuracy run to each pool (`benchmarks.answers`); engines not in it first answer
            in a process of their own.
    """
    if control is not None:
        engines = {**engines, CONTROL: engines[control]}
    first = next(iter(engines))
    asked = list(pairs) if pairs is not None else [(name, first) for name in engines if name not in (first, CONTROL)]
    asked += [(CONTROL, control)] if control is not None else []
    records = {name: _Record() for name in engines}
    for process in range(protocol.most_processes):
        _one_process(process, engines, inputs, protocol, records, track)
        timed = {name: _timings(record, protocol) for name, record in records.items()}
        if process + 1 >= protocol.processes and _narrow(timed, asked, protocol.half_width):
            break
    answers = dict(expected or {})
    if protocol.mode == "latency":
        for name in engines:
            if control is not None and name == CONTROL:
                answers[name] = answers[control]
            elif name not in answers:
                answers[name] = {
                    size: answers_of(engines[name], pool, protocol.threads) for size, pool in inputs.items()
                }
    return {
        name: Measured(timed[name], _typical(record.footprints), _findings(record, answers.get(name, {})))
        for name, record in records.items()
    }


def _one_process(
    process: int,
    engines: Mapping[str, Engine],
    inputs: Mapping[int, Pool],
    protocol: Protocol,
    records: Mapping[str, _Record],
    track: Track,
) -> None:
    """A fresh process of every engine, and rounds of blocks at every batch size."""
    concurrent = protocol.mode == "throughput"
    generator = random.Random(f"{protocol.seed} {process}")
    with ExitStack() as stack:
        # Which is started, loaded and warmed up first is drawn as well: a fixed place would favour the same engine each time.
        order = generator.sample(list(engines), len(engines))
        workers = {name: Worker(engines[name], protocol.threads, concurrent) for name in order}
        for worker in workers.values():
            stack.callback(worker.close)
        for worker in workers.values():
            worker.ready()
        for worker in workers.values():  # one at a time: loading is timed
            stack.enter_context(worker)
        for size, pool in inputs.items():
            calls = {name: _warm_up(worker, pool, protocol, generator) for name, worker in workers.items()}
            for name, (_, _, first_s) in calls.items():
                _remember(workers[name], first_s, process, records[name])
            rounds = max(MIN_ROUNDS, int(protocol.slice_s / max(count * each for count, each, _ in calls.values())))
            label = f"{protocol.mode} of {len(engines)} engines, batch {size}, process {process + 1}"
            found: dict[str, list[Block]] = {name: [] for name in workers}
            for _ in track(range(rounds), label, rounds):
                for name in generator.sample(list(workers), len(workers)):
                    count = calls[name][0]
                    worker, one = workers[name], generator.randrange(count)
                    found[name].append(worker.concurrent(count) if concurrent else worker.block(count, one))
            for name, blocks in found.items():
                records[name].blocks[size].append(blocks)
                if not concurrent:
                    _repeat(workers[name], calls[name][0], records[name])


def _warm_up(worker: Worker, pool: Pool, protocol: Protocol, generator: random.Random) -> tuple[int, float, float]:
    """Warm the engine up; the number of calls that fill a block, the seconds of one call, and those of the first."""
    run = worker.concurrent if protocol.mode == "throughput" else worker.block
    worker.prepare(pool, generator.getrandbits(32))
    first = run(1).wall_s
    spent, last = first, first
    while spent < WARMUP_S:
        block = run(max(1, int(BLOCK_S / 4 / last)))
        spent, last = spent + block.wall_s, block.wall_s * worker.loaded.sessions / len(block.call_s)
    return max(1, round(BLOCK_S / last)), last, first


def _remember(worker: Worker, first_s: float, process: int, record: _Record) -> None:
    """The footprint of a fresh process, at its first batch size."""
    if len(record.footprints) == process:
        loaded = worker.loaded
        record.footprints.append(Footprint(loaded.load_s, first_s, worker.peak_bytes(), loaded.runtime_bytes))
        record.requests = loaded.sessions


def _repeat(worker: Worker, count: int, record: _Record) -> None:
    """Calls on new inputs and on the same again, in turns: a slow moment of the machine slows both."""
    pairs = max(MIN_REPEATS, count // 2)
    call_s = worker.repeated(pairs).call_s
    record.pairs += pairs
    record.new_s.append(float(np.median(call_s[0::2])))
    record.repeated_s.append(float(np.median(call_s[1::2])))


def _timings(record: _Record, protocol: Protocol) -> dict[int, Timings]:
    throughput = protocol.mode == "throughput"
    found = {}
    for size, processes in record.blocks.items():
        blocks = [block for process in processes for block in process]
        measured_s = sum(block.wall_s for block in blocks)
        found[size] = Timings(
            size,
            protocol.threads,
            tuple(np.array([_value(block, throughput) for block in process]) for process in processes),
            tuple(np.array([_quiet(block, protocol.threads) for block in process]) for process in processes),
            np.concatenate([block.call_s for block in blocks]),
            measured_s,
            record.requests,
            max(0.0, sum(block.disturbance.elsewhere_s for block in blocks)) / measured_s,
            tuple(np.array([block.cpu_s / len(block.call_s) for block in process]) for process in processes),
        )
    return found


def _value(block: Block, throughput: bool = False) -> float:
    return block.wall_s / len(block.call_s) if throughput else float(np.median(block.call_s))


def _quiet(block: Block, threads: int) -> bool:
    return not block.disturbance.contended(block.wall_s, block.cpu_s, threads)


def _narrow(timed: Mapping[str, Mapping[int, Timings]], pairs: Iterable[tuple[str, str]], half_width: float) -> bool:
    """Whether every ratio asked for is narrow enough at every batch size, and the reference covers itself."""
    for one, other in pairs:
        for size, timings in timed[one].items():
            ratio = timings.faster_than(timed[other][size])
            if (ratio.high - ratio.low) / 2 > half_width * ratio.value:
                return False
            if one == CONTROL and not ratio.low <= 1.0 <= ratio.high:
                return False
    return True


def _typical(footprints: Sequence[Footprint]) -> Footprint:
    """The median of each figure over the processes."""
    return Footprint(
        load_s=float(np.median([each.load_s for each in footprints])),
        first_inference_s=float(np.median([each.first_inference_s for each in footprints])),
        peak_bytes=int(np.median([each.peak_bytes for each in footprints])),
        runtime_bytes=int(np.median([each.runtime_bytes for each in footprints])),
    )


def _findings(record: _Record, expected: Mapping[int, Answers]) -> tuple[str, ...]:
    found = []
    for size, answers in expected.items():
        given: list[Answer] = [
            block.answer for process in record.blocks[size] for block in process if block.answer is not None
        ]
        found.append(wrong_answers(answers, given))
    if record.new_s:
        found.append(remembered(record.new_s, record.repeated_s, record.pairs))
    return tuple(dict.fromkeys(sentence for sentence in found if sentence))
