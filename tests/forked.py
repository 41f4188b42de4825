"""Worker processes forked off one that has imported every runtime: a run of the tests starts hundreds, and each imports for a second.

A run of the toolkit starts each afresh. Forked off one another they would have one layout in memory, and how much that differs
between processes is part of what is measured; so tests that compare times, and those of measuring itself, do not use this.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import struct
import subprocess
import sys
import traceback
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import IO, NoReturn, cast

from benchmarks import worker

_NUMBER = struct.Struct("<q")
_LARGEST = 1 << 20
"""Bytes of an environment and a folder's name."""


class Forks:
    """The process that the others are forked off; it starts at the first that is asked for and ends with this one."""

    def __init__(self) -> None:
        self._ours: socket.socket | None = None
        self._fresh, self._path = worker.start_process, _path()

    def start(self, environment: Mapping[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        """As `benchmarks.worker.start_process`, which is also asked where another path is searched for modules."""
        if environment.get("PYTHONPATH") != self._path:
            return self._fresh(environment, log)
        if self._ours is None:
            self._ours, theirs = socket.socketpair()
            settings = os.environ | {"PYTHONPATH": self._path, "OMP_NUM_THREADS": "1", **worker.SLEEPING_POOLS}
            handle = str(theirs.fileno())
            subprocess.Popen([sys.executable, "-m", "tests.forked", handle], env=settings, pass_fds=[theirs.fileno()])
            theirs.close()
        return cast("subprocess.Popen[bytes]", _Forked(self._ours, environment, log))


class _Forked:
    """What `benchmarks.worker.Worker` asks of a process."""

    def __init__(self, forks: socket.socket, environment: Mapping[str, str], log: IO[bytes]) -> None:
        (requests, ours), (answered, answers), (self._status, status) = os.pipe(), os.pipe(), os.pipe()
        message = pickle.dumps((dict(environment), str(Path.cwd())))
        socket.send_fds(forks, [_NUMBER.pack(len(message))], [requests, answers, log.fileno(), status])
        forks.sendall(message)
        for theirs in (requests, answers, status):
            os.close(theirs)
        self.stdin, self.stdout = os.fdopen(ours, "wb"), os.fdopen(answered, "rb")
        self.pid = self._number()
        self._code: int | None = None

    def poll(self) -> int | None:
        if self._code is None and select.select([self._status], [], [], 0)[0]:
            return self.wait()
        return self._code

    def wait(self) -> int:
        if self._code is None:
            self._code = self._number()
            os.close(self._status)
        return self._code

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def _number(self) -> int:
        return int(_NUMBER.unpack(os.read(self._status, _NUMBER.size))[0])


def _path() -> str:
    """What a worker is given where nothing is added to it; see `benchmarks.worker.Worker`."""
    root = str(Path(worker.__file__).parent.parent)
    return os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))


def _forking(requests: socket.socket) -> None:
    """Fork a process for each request, and beside it one that waits for its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that wait are waited for by nobody
    while True:
        header, handles, _, _ = socket.recv_fds(requests, _NUMBER.size, 4)
        if not header:
            return
        length = int(_NUMBER.unpack(header)[0])
        message = b""
        while len(message) < length:
            message += requests.recv(length - len(message))
        if os.fork() == 0:
            requests.close()
            _watch(*handles, *pickle.loads(message))
        for handle in handles:
            os.close(handle)


def _watch(stdin: int, stdout: int, log: int, status: int, environment: dict[str, str], folder: str) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if (child := os.fork()) == 0:
        os.close(status)
        for theirs, own in ((stdin, 0), (stdout, 1), (log, 2)):
            os.dup2(theirs, own)
            os.close(theirs)
        _work(environment, folder)
    for handle in (stdin, stdout, log):
        os.close(handle)
    os.write(status, _NUMBER.pack(child))
    _, ended = os.waitpid(child, 0)
    os.write(status, _NUMBER.pack(os.waitstatus_to_exitcode(ended)))
    os._exit(0)


def _work(environment: dict[str, str], folder: str) -> NoReturn:
    from benchmarks import serve

    code = 1
    try:
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        serve.serve()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    for name in ("benchmarks.serve", "torch", "onnxruntime", "openvino"):
        if find_spec(name):
            import_module(name)
    _forking(socket.socket(fileno=int(sys.argv[1])))
