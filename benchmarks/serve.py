"""The worker process itself: loads one engine, answers on its inputs, and times itself in blocks."""

from __future__ import annotations

import importlib
import itertools
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.worker import Block, Loaded, first_line, receive, send
from export.errors import CompressError
from targets import Arrays, Engine, Session, target_class


class _Served:
    """What the child does at each command."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._session: Session | None = None
        self._inputs: dict[str, np.ndarray] = {}

    def load(self, target: str, engine: dict[str, Any], folder: Path, threads: int) -> Loaded:
        pin(threads)
        kind = target_class(target)
        importlib.import_module(kind.runtime_module())
        runtime_bytes = self._process.memory_info().rss
        start = time.perf_counter()
        self._session = kind().load(Engine.from_json(engine, folder), threads)
        load_s = time.perf_counter() - start
        return Loaded(load_s, runtime_bytes, self._process.memory_info().rss)

    def run(self, inputs: dict[str, np.ndarray]) -> Arrays:
        assert self._session is not None
        return {name: np.asarray(output) for name, output in self._session.run(inputs).items()}

    def prepare(self, inputs: dict[str, np.ndarray]) -> None:
        self._inputs = inputs

    def block(self, calls: int) -> Block:
        assert self._session is not None
        session, inputs, clock = self._session, self._inputs, time.perf_counter
        stamps = [0.0] * (calls + 1)
        cpu = time.process_time()
        stamps[0] = clock()
        for call in range(1, calls + 1):
            session.run(inputs)
            stamps[call] = clock()
        cpu_s = time.process_time() - cpu
        return Block(tuple(after - before for before, after in itertools.pairwise(stamps)), cpu_s)

    def peak(self) -> int:
        if sys.platform == "win32":
            return int(self._process.memory_info().peak_wset)
        status = Path("/proc/self/status")
        if status.exists():  # ru_maxrss would start from the parent's size: it survives fork and exec
            [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
            return int(line.split()[1]) * 1024
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def pin(threads: int) -> None:
    """Keep this process on the last `threads` of its cores; does nothing where the system cannot."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[-threads:])


def _serve() -> None:
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
    _serve()
