"""`adb://SERIAL[/folder][?python=PATH]`: an Android phone, by the system's adb."""

from __future__ import annotations

import shlex
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compress.device.transport import NO_COMMAND, ConnectionLost, Ran, Told, carried_out
from export.errors import EnvironmentFailure

_REFUSALS = {
    "unauthorized": "the phone has not allowed this machine; unlock it and confirm the question on its screen",
    "offline": "the phone is offline; plug it in again",
    "not found": "there is no such phone; `adb devices` lists those that are there",
    "no devices": "there is no such phone; `adb devices` lists those that are there",
}
"""Words in adb's message -> what they mean and what to do."""


@dataclass(frozen=True)
class Adb:
    """One phone. Its shell has no Python of its own: one is named by `python`.

    What goes to a command's standard input is pushed to a file first: old adb spoil the bytes of a pipe.
    """

    address: str
    serial: str
    folder: str = "/data/local/tmp/edge-compress"
    python: str = "python3"

    def run(self, words: Sequence[str], told: Told, source: Path | None = None) -> Ran:
        if source is None:
            return self._shell(shlex.join(words) + " < /dev/null", told)
        pushed = f"/data/local/tmp/edge-compress-{uuid.uuid4().hex}"
        try:
            ran = self._adb(["push", str(source), pushed], lambda line: None)
            if ran.code != 0:
                full = "No space left" in ran.error
                raise (EnvironmentFailure if full else ConnectionLost)(
                    f"{self.address}: {'the disk of the phone is full' if full else 'copying broke off'} "
                    f"({_last(ran.error)})"
                )
            return self._shell(f"{shlex.join(words)} < {pushed}", told)
        finally:
            carried_out([*self._words(), "shell", f"rm -f {pushed}"], lambda line: None)

    def _shell(self, command: str, told: Told) -> Ran:
        return self._adb(["shell", command], told)

    def _adb(self, words: Sequence[str], told: Told) -> Ran:
        """Run adb; what it says of the phone itself becomes a sentence."""
        ran = carried_out([*self._words(), *words], told)
        if ran.code == NO_COMMAND[1] and ran.error.startswith("adb: "):
            raise EnvironmentFailure("there is no adb on this machine; install it: apt-get install adb")
        own = ("error:", "adb: device", "adb: no devices")
        said = next((line for line in ran.error.splitlines() if line.startswith(own)), None)
        if ran.code != 0 and said is not None:
            for word, meaning in _REFUSALS.items():
                if word in said:
                    raise EnvironmentFailure(f"{self.address}: {meaning}")
            raise ConnectionLost(f"{self.address}: the connection broke ({said})")
        return ran

    def _words(self) -> list[str]:
        return ["adb", "-s", self.serial]


def _last(error: str) -> str:
    return error.strip().splitlines()[-1] if error.strip() else "no reason given"
