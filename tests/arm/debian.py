"""Debian packages of any architecture, unpacked into a folder: without root, and without a change to this machine.

apt keeps its lists, its cache and an empty list of installed packages in a folder of ours, which is removed afterwards.
Mirrors and keys are those that apt is configured with.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from export.errors import EnvironmentFailure

_MIRRORS = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]


def unpack(packages: Sequence[str], architecture: str, scratch: Path, into: Path) -> int:
    """Download packages with all they depend on, check their signatures, and unpack them; returns the bytes downloaded.

    Raises:
        EnvironmentFailure: if this is neither Debian nor Ubuntu, or apt cannot get the packages.
    """
    apt = _private_apt(architecture, scratch)
    run([*apt, "update"], f"the lists of packages for {architecture}")
    download = ["install", "--download-only", "--no-install-recommends", "--yes", *packages]
    run([*apt, *download], f"{', '.join(packages)} for {architecture}")
    archives = sorted((scratch / "cache" / "archives").glob("*.deb"))
    into.mkdir(parents=True, exist_ok=True)
    for archive in archives:
        run(["dpkg", "-x", str(archive), str(into)], archive.name)
    return sum(archive.stat().st_size for archive in archives)


def run(command: Sequence[str], what: str) -> str:
    """The output of a command.

    Raises:
        EnvironmentFailure: with the last lines that it wrote, if it fails.
    """
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        reason = " / ".join(done.stdout.strip().splitlines()[-3:])
        raise EnvironmentFailure(f"arm: {what}: {Path(command[0]).name} failed ({done.returncode}): {reason}")
    return done.stdout


def distribution_lines(targets: Iterable[str], codename: str, keyring: Path) -> list[str]:
    """Lines for sources.list: of what apt reads, the repositories of the distribution itself.

    Args:
        targets: "URI RELEASE COMPONENT", as apt-get indextargets tells them.
        codename: of the distribution: "bookworm" stands for bookworm-updates and bookworm-security too.
        keyring: signs them; where there is no such file, apt's trusted keys do.
    """
    option = f"[signed-by={keyring}] " if keyring.is_file() else ""
    own = (target.split() for target in dict.fromkeys(targets))
    return [f"deb {option}{' '.join(words)}" for words in own if words[1].partition("-")[0] == codename]


def _private_apt(architecture: str, scratch: Path) -> list[str]:
    if not all(map(shutil.which, ("apt-get", "dpkg"))):
        raise EnvironmentFailure("arm: apt-get and dpkg are not here; the set-up needs Debian or Ubuntu")
    system = platform.freedesktop_os_release()
    keyring = Path(f"/usr/share/keyrings/{system['ID']}-archive-keyring.gpg")
    codename = system.get("VERSION_CODENAME", "")
    sources = distribution_lines(run(_MIRRORS, "apt's sources").splitlines(), codename, keyring)
    if not sources:
        raise EnvironmentFailure(
            f"arm: apt names no repository of {system['ID']} {codename}; see /etc/apt/sources.list"
        )
    for folder in ("lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True, exist_ok=True)
    (scratch / "sources.list").write_text("\n".join([*sources, ""]))
    (scratch / "status").touch()
    options = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "root" if os.getuid() == 0 else "",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "Dir::Cache": scratch / "cache",
        "Dir::Etc::sourcelist": scratch / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State": scratch,
        "Dir::State::status": scratch / "status",
    }
    return ["apt-get", "-q", *(f"-o{name}={value}" for name, value in options.items())]
