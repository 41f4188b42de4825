"""`ssh://[user@]host[:port][/folder]`, by the system's own ssh: its configuration, its keys, its known hosts."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compress.device.transport import NO_COMMAND, ConnectionLost, Ran, Told, carried_out
from export.errors import EnvironmentFailure, SecurityError

FAILED = 255
"""What ssh itself answers when it could not connect, or no longer is."""

OPTIONS = {
    "BatchMode": "yes",  # whoever is asked for a password by a program in the background never sees it
    "ConnectTimeout": "15",
    "ServerAliveInterval": "10",
    "ServerAliveCountMax": "3",
}


@dataclass(frozen=True)
class Ssh:
    """One device; every command is a connection of its own.

    Args:
        host, user, port: checked by `compress.device.address`: none can be taken for an option.
        identity: a private key, instead of those of the user's configuration.
    """

    address: str
    host: str
    user: str | None = None
    port: int | None = None
    identity: Path | None = None
    folder: str = "~/.edge-compress"
    python: str = "python3"

    def run(self, words: Sequence[str], told: Told, source: Path | None = None) -> Ran:
        seen = False

        def heard(line: str) -> None:
            nonlocal seen
            seen = True
            told(line)

        command = [*self._ssh(), shlex.join(words)]
        ran = carried_out(command, heard, source, {**os.environ, "LC_ALL": "C"})
        if ran.code == FAILED:
            raise self._failure(ran.error, seen)
        if ran.code == NO_COMMAND[1] and ran.error.startswith("ssh: "):
            raise EnvironmentFailure("there is no ssh on this machine; install it: apt-get install openssh-client")
        return ran

    def _ssh(self) -> list[str]:
        options = [word for name, value in OPTIONS.items() for word in ("-o", f"{name}={value}")]
        if self.port is not None:
            options += ["-p", str(self.port)]
        if self.user is not None:
            options += ["-l", self.user]
        if self.identity is not None:
            options += ["-o", "IdentitiesOnly=yes", "-i", str(self.identity)]
        return ["ssh", "-T", *options, "--", self.host]

    def _failure(self, error: str, seen: bool) -> EnvironmentFailure | SecurityError:
        by_hand = shlex.join(self._by_hand())
        last = error.strip().splitlines()[-1] if error.strip() else "the connection was closed"
        if "IDENTIFICATION HAS CHANGED" in error:
            return SecurityError(
                f"{self.address}: its host key is not the one that this machine knows; find out why before you remove "
                "the old one: ssh-keygen -R"
            )
        if "Host key verification failed" in error:
            return EnvironmentFailure(
                f"{self.address}: this machine does not know its host key; connect once by hand and compare it: {by_hand}"
            )
        if "Permission denied (" in error:
            return EnvironmentFailure(
                f"{self.address}: the device refused the key; put yours there (ssh-copy-id), or name another with "
                f"--identity. By hand: {by_hand}"
            )
        if seen or not error.startswith("ssh: "):
            return ConnectionLost(f"{self.address}: the connection broke ({last})")
        return ConnectionLost(
            f"{self.address}: cannot be reached ({last.removeprefix('ssh: ')}); is it on, and does ssh listen there?"
        )

    def _by_hand(self) -> list[str]:
        port = [] if self.port is None else ["-p", str(self.port)]
        return ["ssh", *port, self.host if self.user is None else f"{self.user}@{self.host}"]
