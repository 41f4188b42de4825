"""adb without a phone: a script in its place runs the same words here, in a folder that stands for the phone's."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from compress.device.adb import Adb
from compress.device.device import Device
from compress.device.transport import ConnectionLost
from compress.run_directory import sha256_of
from export.errors import EnvironmentFailure

FAKE = """#!/bin/sh
root={root}
echo "$*" | cut -c 1-60 >> $root/calls
[ "$1 $2" = "-s emulator-5554" ] || {{ echo "adb: device '$2' not found" >&2; exit 1; }}
[ ! -e $root/says ] || {{ cat $root/says >&2; exit 1; }}
shift 2
there() {{ printf %s "$1" | sed "s#/data/local/tmp#$root#g"; }}
case $1 in
push) cp "$2" "$(there "$3")" ;;
shell) shift; sh -c "$(there "$*")" ;;
esac
"""


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that is /data/local/tmp on the phone."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "phone").mkdir()
    fake = tmp_path / "bin/adb"
    fake.write_text(FAKE.format(root=tmp_path / "phone"))
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "phone"


def device(serial: str = "emulator-5554", python: str = sys.executable) -> Device:
    return Device(Adb(f"adb://{serial}", serial, python=python), [].append, waits_s=())


def test_copy_run_and_fetch(phone: Path, tmp_path: Path) -> None:
    told: list[str] = []
    found, source = device(), tmp_path / "it's a model"
    source.write_bytes(os.urandom(100_000) + b"\r\n\x00'\"$(id)")
    name = f"{sha256_of(source)}-file"
    found.told = told.append
    assert found.probe("json", [name]).here == ()
    found.put(source, name)
    there = phone / "edge-compress"
    assert (there / name).read_bytes() == source.read_bytes()
    assert [file.name for file in phone.iterdir() if file.name.startswith("edge-compress-")] == []
    found.start([["-c", "print('a  b', \"c$HOME\"); open('report.json', 'w').write('[1]')"]], ())
    assert found.wait() == 0
    assert told == ["a  b c$HOME"]
    assert found.read("report.json") == b"[1]"
    found.clean([name])
    assert not there.exists()
    kinds = [line.split()[2] for line in (phone / "calls").read_text().splitlines() if line.startswith("-s")]
    assert kinds == ["shell", "push", "shell", "shell", "shell", "shell", "shell", "shell"]


@pytest.mark.parametrize(
    ("says", "message"),
    [
        (
            "error: device unauthorized.\nOtherwise check for a confirmation dialog on your device.",
            "unlock it and confirm",
        ),
        ("error: device offline", "plug it in again"),
        ("error: closed", "the connection broke"),
    ],
)
def test_what_adb_says_of_the_phone(phone: Path, says: str, message: str) -> None:
    (phone / "says").write_text(says + "\n")
    with pytest.raises(EnvironmentFailure, match=message):
        device().probe("json", ())


def test_another_serial_number(phone: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="there is no such phone; `adb devices` lists"):
        device("R58M").probe("json", ())


def test_a_phone_without_python(phone: Path) -> None:
    with pytest.raises(EnvironmentFailure, match=r"there is no python3-of-termux .* name an interpreter with --python"):
        device(python="python3-of-termux").probe("json", ())


def test_a_full_phone(phone: Path, tmp_path: Path) -> None:
    (phone / "says").write_text(
        "adb: error: failed to copy 'x' to 'y': remote couldn't create file: No space left on device\n"
    )
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFailure, match="the disk of the phone is full") as failed:
        device().put(tmp_path / "file", "x")
    assert not isinstance(failed.value, ConnectionLost)


def test_no_adb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentFailure, match="no adb on this machine; install it: apt-get install adb"):
        device().probe("json", ())
