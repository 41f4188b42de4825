"""The device's side: what a desk asks of the machine at the other end, in Python 3.9 with the standard library alone.

The desk sends this file's text with each call (`compress/device/device.py`). Every answer is a line of JSON; the last
one holds "done". Where that is missing, the connection broke or there is no Python.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

PARTIAL = ".partial"
STALE_S = 3600.0
"""A half-written file as old as this is nobody's any more: the machine went down while it was copied."""
BEAT_S = 1.0
JOB = "job-"


def main(words: list[str]) -> None:
    """One command; `words[0]` is its name."""
    commands: dict[str, Callable[..., dict[str, Any]]] = {
        "probe": probe,
        "take": take,
        "start": start,
        "follow": follow,
        "give": give,
        "clean": clean,
    }
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, _leave)
    try:
        tell(done=commands[words[0]](*words[1:]))
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        tell(done={"full" if full else "failed": error.strerror or str(error)})


def tell(**words: Any) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def probe(folder: str, module: str, *names: str) -> dict[str, Any]:
    """What must be known before anything is sent; `names` of files are answered with those that lie here whole."""
    place = made(folder)
    for left in place.glob("*" + PARTIAL):
        if time.time() - left.stat().st_mtime > STALE_S:
            left.unlink()
    for job in place.glob(JOB + "*"):
        if not _watched(job):
            shutil.rmtree(str(job), ignore_errors=True)
    return {
        "python": platform.python_version(),
        "missing": [name for name in ("numpy", module) if util.find_spec(name) is None],
        "free_bytes": shutil.disk_usage(str(place)).free,
        "here": [name for name in names if (place / name).is_file() and sha256(place / name) == named(name)],
    }


def take(folder: str, name: str, size: str) -> dict[str, Any]:
    """A file from standard input, under its name only when every byte has come; its name begins with its sha256."""
    place = made(folder)
    partial, left, digest = place / f"{name}.{os.getpid()}{PARTIAL}", int(size), hashlib.sha256()
    try:
        with partial.open("wb") as file:
            while left > 0:
                chunk = sys.stdin.buffer.read(min(left, 1 << 20))
                if not chunk:
                    return {"short": left}
                file.write(chunk)
                digest.update(chunk)
                left -= len(chunk)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != named(name):
            return {"other": digest.hexdigest()}
        partial.replace(place / name)
        return {}
    finally:
        if partial.exists():
            partial.unlink()


def start(folder: str, job: str, patience: str, commands: str, *names: str) -> dict[str, Any]:
    """Begin commands, one after the other, in a session of their own that outlives this connection.

    Args:
        job: the name of their folder: log, exit code and all they write lie there.
        patience: seconds without a desk that asks, after which all is ended and removed.
        commands: as JSON, a list of lists of words; "{here}" stands for `folder`.
        names: files in `folder` that are removed with a job whose desk never came back.
    """
    place = made(folder) / job
    place.mkdir()
    for name in ("asked", "log"):
        (place / name).touch()
    lock = (place / "lock").open("wb")
    fcntl.flock(lock, fcntl.LOCK_EX)  # held by who watches, until its end: a job that nobody watches is known by it
    if os.fork() == 0:
        os.setsid()
        for stream in (0, 1, 2):
            os.dup2(os.open(os.devnull, os.O_RDWR), stream)
        try:
            _watch_over(place, float(patience), json.loads(commands))
        finally:
            asked_to = (place / "stop").exists()
            shutil.rmtree(str(place), ignore_errors=True)
            if not asked_to:
                clean(folder, job, *names)
            os._exit(0)
    return {}


def follow(folder: str, job: str, since: str) -> dict[str, Any]:
    """The log from a byte on, line by line as it grows, until the commands have ended; the end tells their exit code."""
    place, at = Path(folder).expanduser() / job, int(since)
    if not place.is_dir():
        return {"gone": True}
    with (place / "log").open("rb") as log:
        log.seek(at)
        while True:
            os.utime(str(place / "asked"))
            ended = (place / "code").exists()
            for line in log.readlines():
                at += len(line)
                tell(line=line.decode(errors="replace").rstrip(), at=at)
            if ended:
                return {"code": int((place / "code").read_text())}
            if not _watched(place) and not (place / "code").exists():
                return {"gone": True}
            tell(at=at)
            time.sleep(BEAT_S)


def give(folder: str, name: str) -> dict[str, Any]:
    """A text file, with its sha256."""
    content = (Path(folder).expanduser() / name).read_bytes()
    return {"content": content.decode(), "sha256": hashlib.sha256(content).hexdigest()}


def clean(folder: str, job: str, *names: str) -> dict[str, Any]:
    """End a job that runs and remove its folder, the files named, and `folder` if nothing else is in it."""
    place = Path(folder).expanduser()
    if (place / job).is_dir():
        (place / job / "stop").touch()
        for _ in range(100):
            if not _watched(place / job):
                break
            time.sleep(0.1)
        shutil.rmtree(str(place / job), ignore_errors=True)
    for name in names:
        if (place / name).exists():
            (place / name).unlink()
    if place.is_dir() and not any(place.iterdir()):
        place.rmdir()
    return {}


def made(folder: str) -> Path:
    place = Path(folder).expanduser()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    return place


def named(name: str) -> str:
    """The sha256 that a file's name begins with."""
    return name.partition("-")[0]


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def _watched(job: Path) -> bool:
    """Whether somebody holds a job's lock. After the machine went down nobody does."""
    try:
        with (job / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno != errno.ENOENT
    return False


def _watch_over(job: Path, patience_s: float, commands: list[list[str]]) -> None:
    """Run the commands, then stay until the desk has what it wants; what nobody asks for any more is removed."""

    def wanted() -> bool:
        try:
            return not (job / "stop").exists() and time.time() - (job / "asked").stat().st_mtime < patience_s
        except OSError:
            return False

    code = 0
    with (job / "log").open("ab") as log:
        for words in commands:
            process = subprocess.Popen(
                [sys.executable, *(word.replace("{here}", str(job.parent)) for word in words)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=str(job),
                env={**os.environ, "TMPDIR": str(job), "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
            while process.poll() is None:
                if not wanted():
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    return
                time.sleep(0.2)
            code = process.returncode
            if code != 0:
                break
    (job / ("code" + PARTIAL)).write_text(str(code))
    (job / ("code" + PARTIAL)).replace(job / "code")
    while wanted():
        time.sleep(0.2)


def _leave(*_: object) -> None:
    sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
