"""One device as the desk sees it: what it has, files put there whole, a job that outlives the connection, its report."""

from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compress.device import there
from compress.device.transport import NO_COMMAND, ConnectionLost, Told, Transport
from compress.pack.runner import bare
from export.errors import EnvironmentFailure

PATIENCE_S = 180.0
"""A job that no desk has asked after for so long ends itself and removes what it wrote."""
WAITS_S = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
"""Between the attempts to reach a device again; together well below PATIENCE_S."""


@dataclass(frozen=True)
class Found:
    """What a device has.

    Args:
        missing: of numpy and the runtime's module.
        free_bytes: where files are put.
        here: names of the files asked after that lie there whole.
    """

    python: str
    missing: tuple[str, ...]
    free_bytes: int
    here: tuple[str, ...]


@dataclass
class Device:
    """Talks to `compress.device.there` through a transport; a connection that breaks is made again.

    Args:
        told: hears what goes on, a line at a time.
        waits_s: pauses before each new attempt; after the last the device is given up.
    """

    transport: Transport
    told: Told
    waits_s: Sequence[float] = WAITS_S
    patience_s: float = PATIENCE_S
    job: str = field(default_factory=lambda: there.JOB + uuid.uuid4().hex[:12])

    def probe(self, module: str, names: Iterable[str]) -> Found:
        """What the device has; the first call that reaches it.

        Raises:
            EnvironmentFailure: if it cannot be reached, or has no Python 3.9.
        """
        answer = self._once("probe", self.transport.folder, module, *names)
        version = tuple(map(int, answer["python"].split(".")[:2]))
        if version < (3, 9):
            raise EnvironmentFailure(
                f"{self.transport.address}: {self.transport.python} is Python {answer['python']}, the runner needs 3.9; "
                "name another with --python"
            )
        return Found(answer["python"], tuple(answer["missing"]), answer["free_bytes"], tuple(answer["here"]))

    def put(self, source: Path, name: str) -> None:
        """Copy a file, whole or not at all, under a name that begins with its sha256; begun anew if it breaks off.

        Raises:
            EnvironmentFailure: if the disk is full, or the connection does not come back; nothing of it is left there.
        """
        size = source.stat().st_size
        answer = self._again("take", self.transport.folder, name, str(size), source=source, what="copying")
        if "other" in answer:
            raise EnvironmentFailure(f"{self.transport.address}: {name[:12]}... came as another file; nothing was kept")

    def start(self, commands: list[list[str]], names: Iterable[str]) -> None:
        """Begin commands of the interpreter there, one after the other; they go on if the connection breaks.

        Args:
            names: files that go with the job, if no desk comes back for it.
        """
        words = (self.transport.folder, self.job, str(self.patience_s), json.dumps(commands))
        self._once("start", *words, *names)

    def wait(self) -> int:
        """Tell what the commands print until they have ended; the exit code of the last one that ran.

        Raises:
            ConnectionLost: if the device does not come back; what runs there ends and removes itself.
        """
        since = 0

        def heard(answer: dict[str, Any]) -> None:
            nonlocal since
            since = answer.get("at", since)
            if "line" in answer:
                self.told(_plain(str(answer["line"])))

        for wait_s in (*self.waits_s, None):
            try:
                answer = self._ask("follow", [self.transport.folder, self.job, str(since)], heard=heard)
                if "gone" in answer:
                    raise EnvironmentFailure(
                        f"{self.transport.address}: the measurement there is gone without a result; did the device restart? "
                        "Run the same command again"
                    )
                return int(answer["code"])
            except ConnectionLost as error:
                if wait_s is None:
                    raise ConnectionLost(
                        f"{error}, and did not come back; the measurement there ends itself and removes its files within "
                        f"{self.patience_s:.0f} s. Run the same command again"
                    ) from error
                self.told(f"{error}; the measurement goes on there, trying again in {wait_s:g} s")
                time.sleep(wait_s)
        raise AssertionError("the last attempt returns or raises")

    def read(self, name: str) -> bytes:
        """A text file of the job.

        Raises:
            EnvironmentFailure: if it is not there, or did not come over whole.
        """
        answer = self._again("give", self.transport.folder, f"{self.job}/{name}", what="fetching the report")
        content = str(answer["content"]).encode()
        if hashlib.sha256(content).hexdigest() != answer["sha256"]:
            raise EnvironmentFailure(f"{self.transport.address}: {name} did not come over whole; run again")
        return content

    def clean(self, names: Iterable[str]) -> None:
        """End what runs there, remove the job's folder and the files named."""
        self._again("clean", self.transport.folder, self.job, *names, what="cleaning up")

    def _again(self, command: str, *words: str, what: str, source: Path | None = None) -> dict[str, Any]:
        """Ask until the connection holds to the end; the commands asked so may be asked twice."""
        for wait_s in (*self.waits_s, None):
            try:
                return self._once(command, *words, source=source)
            except ConnectionLost as error:
                if wait_s is None:
                    raise ConnectionLost(
                        f"{error} while {what}, and did not come back; nothing half-written was left under a final name. "
                        "Run the same command again"
                    ) from error
                self.told(f"{error} while {what}; trying again in {wait_s:g} s")
                time.sleep(wait_s)
        raise AssertionError("the last attempt returns or raises")

    def _once(self, command: str, *words: str, source: Path | None = None) -> dict[str, Any]:
        return self._ask(command, list(words), source)

    def _ask(
        self, command: str, words: Sequence[str], source: Path | None = None, heard: Any = lambda answer: None
    ) -> dict[str, Any]:
        """One call of the device's side.

        Raises:
            EnvironmentFailure: for what the device says it cannot do.
            ConnectionLost: if the answer has no end.
        """
        done: list[dict[str, Any]] = []

        def line(text: str) -> None:
            answer = _object(text)
            if "done" in answer:
                done.append(answer["done"])
            else:
                heard(answer)

        asked = [self.transport.python, "-c", _program(), command, *words]
        ran = self.transport.run(asked, line, source)
        place = f"{self.transport.address}: "
        if not done:
            last = ran.error.strip().splitlines()[-1] if ran.error.strip() else f"exit code {ran.code}"
            if ran.code in NO_COMMAND:
                raise EnvironmentFailure(
                    f"{place}there is no {self.transport.python} ({last}); install Python 3.9 or later there, or name an "
                    "interpreter with --python"
                )
            if ran.code > 0 and ran.error.strip():
                raise EnvironmentFailure(f"{place}{self.transport.python} failed: {last}")
            raise ConnectionLost(f"{place}the connection broke ({last})")
        if "full" in done[0]:
            raise EnvironmentFailure(
                f"{place}the disk is full there ({done[0]['full']}); free some space, or name another folder in the "
                "address. Nothing half-written was left"
            )
        if "failed" in done[0]:
            raise EnvironmentFailure(f"{place}{command}: {done[0]['failed']}")
        if "short" in done[0]:
            raise ConnectionLost(f"{place}the connection broke with {done[0]['short']:,} bytes to go")
        return done[0]


def _program() -> str:
    """The device's side as a program of one line, without a quote or a line break that any login shell could take amiss.

    Packed it stays below the 4 kB that an old adb takes as a command.
    """
    packed = base64.b64encode(zlib.compress(bare(Path(there.__file__).read_text()).encode(), 9)).decode()
    return f"import base64,zlib;exec(zlib.decompress(base64.b64decode('{packed}')).decode())"


def _plain(line: str) -> str:
    """Without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:  # what a login script prints
        return {}
    return found if isinstance(found, dict) else {}
