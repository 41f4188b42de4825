"""A worker process for one engine, as its parent sees it; the child's side is benchmarks.serve.

Every engine runs in a process of its own, so that neither thread pools, allocators nor caches of one runtime reach
another, and so that peak memory is that engine's alone. Parent and child exchange pickled values over the child's
standard streams; both ends are ours, nothing from outside is ever unpickled.
"""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from benchmarks.contention import Disturbance
from export.errors import EnvironmentFailure, UnsupportedError
from targets import Arrays, Engine, Profile

if TYPE_CHECKING:
    from typing import Self

_HEADER = struct.Struct("<Q")

SLEEPING_POOLS = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", "GOMP_SPINCOUNT": "0"}
"""Threads of a pool that has nothing to do sleep, so that an idle engine takes no time from the one being timed."""


@dataclass(frozen=True)
class Answer:
    """What an engine answered to the pool's input `index` while it was timed; see `benchmarks.feed.kept`."""

    index: int
    outputs: Arrays


@dataclass(frozen=True)
class Block:
    """One block of calls: seconds of each, wall and CPU seconds of the whole process over the block, what disturbed it."""

    call_s: tuple[float, ...]
    wall_s: float
    cpu_s: float
    disturbance: Disturbance
    answer: Answer | None = None


@dataclass(frozen=True)
class Loaded:
    """What loading cost in the fresh process; bytes are resident set sizes. More than one session if concurrent."""

    load_s: float
    runtime_bytes: int
    loaded_bytes: int
    sessions: int


class Worker:
    """A process that holds one engine. Use as a context manager: entering loads the engine, leaving ends the process.

    Making it starts the process, which imports its runtime meanwhile.

    Args:
        engine: what to load.
        threads: threads of the runtime; the process is pinned to that many cores where the system allows it.
        concurrent: open the engine in the runtime's throughput mode, for several requests at once.

    Raises (by every method):
        CompressError: what the target raised while loading or running.
        UnsupportedError: any other failure of the runtime, with its first line.
        EnvironmentFailure: if the process died.
    """

    def __init__(self, engine: Engine, threads: int = 1, concurrent: bool = False) -> None:
        self.engine = engine
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH")])
            ),
            "OMP_NUM_THREADS": str(threads),
            **SLEEPING_POOLS,
        }
        self._process = start_process(environment, self._log)
        self._arguments = (threads, concurrent)
        self._is_ready = False
        self._send("start", (engine.target, threads))

    @property
    def loaded(self) -> Loaded:
        """What loading cost; of an entered worker."""
        return self._loaded

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def ready(self) -> None:
        """Wait until the process has imported its runtime; several workers do that side by side."""
        if not self._is_ready:
            self._receive("start")
            self._is_ready = True

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """The engine's outputs by name."""
        answer: Arrays = self._ask("run", dict(inputs))
        return answer

    def prepare(self, pool: Sequence[Mapping[str, np.ndarray]], seed: int = 0) -> None:
        """Keep `pool`, distinct inputs of equal shapes, in the process: timed calls run on fresh variations of them."""
        self._ask("prepare", [dict(inputs) for inputs in pool], seed)

    def block(self, calls: int, untouched: int | None = None) -> Block:
        """Run `calls` times, each on an input not seen before; call `untouched` on one of the pool's own, answer kept."""
        block: Block = self._ask("block", calls, untouched)
        return block

    def repeated(self, calls: int) -> Block:
        """Run `calls` times on an input not seen before and at once on the same again: 2 x calls times, in turns."""
        block: Block = self._ask("repeated", calls)
        return block

    def concurrent(self, calls: int) -> Block:
        """Run `calls` times on each session, all sessions at once; for a worker opened with `concurrent`."""
        block: Block = self._ask("concurrent", calls)
        return block

    def profile(self, inputs: Mapping[str, np.ndarray], runs: int = 30, past: int | None = None) -> Profile:
        """Where the time of one inference goes, by the runtime's own profiler; see `Target.profile` and `StatefulTarget`."""
        profile: Profile = self._ask("profile", dict(inputs), runs, past)
        return profile

    def peak_bytes(self) -> int:
        """Largest resident set size of the process so far."""
        peak: int = self._ask("peak")
        return peak

    def close(self) -> None:
        """End the process at once."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue

    def __enter__(self) -> Self:
        folder = self.engine.folder
        try:
            self.ready()
            self._loaded: Loaded = self._ask("load", self.engine.to_json(folder), folder, *self._arguments)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, command: str, *arguments: Any) -> Any:
        self._send(command, arguments)
        return self._receive(command)

    def _send(self, command: str, arguments: tuple[Any, ...]) -> None:
        assert self._process.stdin is not None
        try:
            send(self._process.stdin, (command, arguments))
        except BrokenPipeError as error:
            raise EnvironmentFailure(self._epitaph(command)) from error

    def _receive(self, command: str) -> Any:
        assert self._process.stdout is not None
        try:
            kind, answer = receive(self._process.stdout)
        except EOFError as error:
            raise EnvironmentFailure(self._epitaph(command)) from error
        if kind == "explained":
            raise answer
        if kind == "failed":
            raise UnsupportedError(f"{self.engine.target}/{self.engine.scheme}: {command} failed: {answer}")
        return answer

    def _epitaph(self, command: str) -> str:
        code = self._process.wait()
        self._log.seek(0)
        last = self._log.read().decode(errors="replace").strip().splitlines()[-1:] or ["it printed nothing"]
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        memory = "; signal 9 is usually the system running out of memory" if code == -9 else ""
        return f"{self.engine.target}/{self.engine.scheme}: the worker process ended at '{command}' with {how}{memory}: {last[0]}"


def start_process(environment: Mapping[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """A fresh process of `benchmarks.serve`; what it prints goes to `log`."""
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=environment,
    )


def first_line(error: BaseException) -> str:
    """The first line of an error that says something, at most 300 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


def send(stream: IO[bytes], value: Any) -> None:
    """Write one value to the other end."""
    payload = pickle.dumps(value, protocol=5)
    stream.write(_HEADER.pack(len(payload)))
    stream.write(payload)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Read one value from the other end.

    Raises:
        EOFError: if the other end is gone.
    """
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise EOFError
    return pickle.loads(stream.read(_HEADER.unpack(header)[0]))
