"""The set-up of the emulated ARM: which repositories, what is missing, what a failed command says. No network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from export.errors import EnvironmentFailure
from tests.arm import debian, install
from tests.arm.emulated import unavailable

MACHINE = """\
http://mirror.example/debian/ bookworm main
http://mirror.example/debian/ bookworm main
http://mirror.example/debian/ bookworm-updates main
http://mirror.example/debian-security/ bookworm-security main
https://packages.example nodistro main
https://packages.example cloud-sdk-bookworm main
""".splitlines()


def test_only_the_distribution_itself_is_read(tmp_path: Path) -> None:
    lines = debian.distribution_lines(MACHINE, "bookworm", tmp_path / "absent.gpg")
    assert lines == [
        "deb http://mirror.example/debian/ bookworm main",
        "deb http://mirror.example/debian/ bookworm-updates main",
        "deb http://mirror.example/debian-security/ bookworm-security main",
    ]


def test_its_keyring_signs_where_there_is_one(tmp_path: Path) -> None:
    keyring = tmp_path / "debian-archive-keyring.gpg"
    keyring.touch()
    assert debian.distribution_lines(MACHINE[:1], "bookworm", keyring) == [
        f"deb [signed-by={keyring}] http://mirror.example/debian/ bookworm main"
    ]


def test_without_apt_one_sentence_says_what_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        EnvironmentFailure, match=r"^arm: apt-get and dpkg are not here; the set-up needs Debian or Ubuntu$"
    ):
        debian.unpack(["python3"], "arm64", tmp_path / "scratch", tmp_path / "root")


def test_a_failed_command_shows_its_last_lines() -> None:
    failing = [sys.executable, "-c", "print('one'); print('E: no such package'); raise SystemExit(100)"]
    with pytest.raises(EnvironmentFailure, match=r"^arm: python3: \S+ failed \(100\): one / E: no such package$"):
        debian.run(failing, "python3")


def test_on_an_arm_nothing_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "architecture", lambda: "arm64")
    with pytest.raises(EnvironmentFailure, match="this machine is an ARM itself"):
        install.install()


def test_the_reason_names_the_command_and_other_versions(tmp_path: Path) -> None:
    installed = tmp_path / "installed.json"
    assert (unavailable(installed) or "").startswith("no emulated ARM here; set it up with: make arm")
    installed.write_text(json.dumps({"numpy": "2.4.6", "onnxruntime": "1.27.0"}))
    assert unavailable(installed, {"numpy": "2.4.6", "onnxruntime": "1.27.0"}) is None
    reason = unavailable(installed, {"numpy": "2.4.6", "onnxruntime": "1.31.1"}) or ""
    assert "has numpy 2.4.6, onnxruntime 1.27.0, this environment numpy 2.4.6, onnxruntime 1.31.1; set it up" in reason


def test_the_launcher_starts_the_emulator_beside_it_wherever_it_is_linked_from(tmp_path: Path) -> None:
    """With a shell script in the emulator's place that prints what it is given."""
    folder, link = tmp_path / "arm", tmp_path / "linked"
    (folder / "bin").mkdir(parents=True)
    for name, text in (("python", install.LAUNCHER), ("qemu-aarch64-static", '#!/bin/sh\necho "$QEMU_CPU" "$@"\n')):
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    link.symlink_to(folder / "bin" / "python")
    plain = {name: value for name, value in os.environ.items() if name != "QEMU_CPU"}
    for extra, cpu in (({}, "cortex-a76"), ({"QEMU_CPU": "max"}, "max")):
        said = subprocess.run(
            [link, "x.py", "a b"], capture_output=True, text=True, check=True, env=plain | extra
        ).stdout
        assert said.split() == [
            *(cpu, "-0", f"{folder}/bin/python", "-L", f"{folder}/root", f"{folder}/root/usr/bin/python3"),
            *("x.py", "a", "b"),
        ]
