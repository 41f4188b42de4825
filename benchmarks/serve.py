"""The worker process itself: loads one engine, answers on its inputs, and times itself in blocks."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from benchmarks.contention import Watch
from benchmarks.feed import Feed, kept
from benchmarks.process import peak_bytes, resident_bytes
from benchmarks.worker import Answer, Block, Loaded, first_line, receive, send
from export.errors import CompressError, UnsupportedError
from targets import Arrays, Engine, Profile, Session, load, load_concurrent, target_class

if TYPE_CHECKING:
    from targets.generation.decoder import StatefulTarget


class _Served:
    """What the child does at each command. With `concurrent` there are several sessions, else one."""

    def __init__(self) -> None:
        self._sessions: Sequence[Session] = ()
        self._feeds: list[Feed] = []

    def start(self, target: str, threads: int) -> None:
        pin(
            threads
        )  # before the import: OpenVINO took 0.3 to 3.4 % longer (three pairs) if loaded with more cores in sight
        self._kind = target_class(target)
        importlib.import_module(self._kind.runtime_module())
        self._runtime_bytes = resident_bytes()

    def load(self, engine: dict[str, Any], folder: Path, threads: int, concurrent: bool) -> Loaded:
        self._watch = Watch()
        target, found = self._kind(), Engine.from_json(engine, folder)
        self._held = target, found, threads
        start = time.perf_counter()
        self._sessions = load_concurrent(target, found, threads) if concurrent else [load(target, found, threads)]
        load_s = time.perf_counter() - start
        return Loaded(load_s, self._runtime_bytes, resident_bytes(), len(self._sessions))

    def run(self, inputs: dict[str, np.ndarray]) -> Arrays:
        return {name: np.asarray(output) for name, output in self._sessions[0].run(inputs).items()}

    def prepare(self, pool: Sequence[Mapping[str, np.ndarray]], seed: int) -> None:
        self._feeds = [Feed(pool, seed + lane) for lane in range(len(self._sessions))]

    def block(self, calls: int, untouched: int | None) -> Block:
        [feed], [session] = self._feeds, self._sessions
        return self._timed(lambda: _calls(session, feed.fresh(calls, untouched), untouched))

    def repeated(self, calls: int) -> Block:
        [feed], [session] = self._feeds, self._sessions
        return self._timed(lambda: _calls(session, feed.twice(calls), None))

    def concurrent(self, calls: int) -> Block:
        """`calls` calls on each session, all sessions at once."""
        from concurrent.futures import ThreadPoolExecutor

        def work() -> tuple[list[float], None]:
            with ThreadPoolExecutor(len(self._sessions)) as pool:
                lanes = [
                    pool.submit(_calls, session, feed.fresh(calls), None)
                    for session, feed in zip(self._sessions, self._feeds)
                ]
                return [taken for lane in lanes for taken in lane.result()[0]], None

        return self._timed(work)

    def profile(self, inputs: Mapping[str, np.ndarray], runs: int, past: int | None) -> Profile:
        target, engine, threads = self._held
        if past is not None:
            if not hasattr(target, "profile_behind"):
                raise UnsupportedError(
                    f"{target.name}: the decoder keeps its cache, and the target cannot profile a call behind {past} tokens: it has "
                    "no profile_behind (targets/generation/decoder.py, StatefulTarget)"
                )
            return cast("StatefulTarget", target).profile_behind(past, engine, inputs, threads, runs)
        return target.profile(engine, inputs, threads, runs)

    def peak(self) -> int:
        return peak_bytes()

    def _timed(self, work: Any) -> Block:
        self._watch.start()
        start, cpu = time.perf_counter(), time.process_time()
        call_s, answer = work()
        wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
        return Block(tuple(call_s), wall_s, cpu_s, self._watch.stop(), answer)


def _calls(
    session: Session, inputs: Iterable[tuple[int, dict[str, np.ndarray]]], untouched: int | None
) -> tuple[list[float], Answer | None]:
    """Seconds of each call, and the answer to the untouched one. Filling the buffers lies outside the clock."""
    clock, run, taken, answer = time.perf_counter, session.run, [], None
    for call, (index, arrays) in enumerate(inputs):
        before = clock()
        outputs = run(arrays)
        taken.append(clock() - before)
        if call == untouched:
            answer = Answer(index, kept(outputs))
    return taken, answer


def pin(threads: int) -> None:
    """Keep this process on the last `threads` of its cores; does nothing where the system cannot."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[-threads:])


def serve() -> None:
    """Answer what comes over standard input until it ends."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    served = _Served()
    while True:
        try:
            command, arguments = receive(requests)
        except EOFError:
            return
        try:
            answer = ("done", getattr(served, command)(*arguments))
        except CompressError as error:
            answer = ("explained", error)
        except Exception as error:  # the boundary: whatever a vendor runtime raises becomes the parent's sentence
            answer = ("failed", first_line(error))
        send(answers, answer)


if __name__ == "__main__":
    serve()
