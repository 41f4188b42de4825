"""A real OpenSSH server on the loopback address at a free port, with keys of its own, and an `ssh` that knows it."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin")
REASON = "no OpenSSH server here; apt-get install openssh-server"


@dataclass
class Server:
    """A running server. Put `bin` first on PATH, and `ssh` uses `config` as a user's own configuration."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    @property
    def config(self) -> Path:
        return self.folder / "config"

    def address(self, place: Path) -> str:
        return f"ssh://{pwd.getpwuid(os.getuid()).pw_name}@127.0.0.1:{self.port}{place}"

    def cut(self) -> int:
        """Kill every session, as a cable that is pulled would; how many there were."""
        sessions = [each for each in psutil.Process(self.process.pid).children(recursive=True) if "sshd" in each.name()]
        for each in sessions:
            each.kill()
        return len(sessions)

    def stop(self) -> None:
        self.cut()
        self.process.terminate()
        self.process.wait()


def key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def serve(folder: Path, port: int | None = None) -> Server:
    """Start it; the keys in `folder` are made where they are missing."""
    assert SSHD is not None
    if port is None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        for name in ("host", "user", "stranger"):
            key(folder / name)
        (folder / "allowed").write_text((folder / "user.pub").read_text())
        kind, value = (folder / "host.pub").read_text().split()[:2]
        (folder / "known").write_text(f"[127.0.0.1]:{port} {kind} {value}\n")
        (folder / "config").write_text(
            f"IdentityFile {folder}/user\nIdentitiesOnly yes\nUserKnownHostsFile {folder}/known\n"
            "GlobalKnownHostsFile /dev/null\nIdentityAgent none\n"
        )
        (folder / "bin").mkdir()
        ssh = folder / "bin/ssh"
        ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/config "$@"\n')
        ssh.chmod(0o755)
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/allowed\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPidFile none\n"
        "MaxStartups 50\n"
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    with (folder / "sshd.log").open("ab") as log:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)
    for _ in range(100):
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return Server(port, folder, process)
        time.sleep(0.05)
    process.kill()
    raise RuntimeError((folder / "sshd.log").read_text())
