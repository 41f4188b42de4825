"""What the user writes after `--on`: what is understood, and that nothing in it can be taken for an option."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.device.adb import Adb
from compress.device.address import transport_to
from compress.device.local import Local
from compress.device.ssh import Ssh
from export.errors import InputError


@pytest.mark.parametrize(
    ("address", "host", "user", "port", "folder"),
    [
        ("ssh://pi@pi4.lan:2222", "pi4.lan", "pi", 2222, "~/.edge-compress"),
        ("ssh://board", "board", None, None, "~/.edge-compress"),
        ("ssh://pi@[fe80::1]:22/mnt/ssd/", "fe80::1", "pi", 22, "/mnt/ssd"),
    ],
)
def test_ssh(address: str, host: str, user: str | None, port: int | None, folder: str) -> None:
    found = transport_to(address)
    assert isinstance(found, Ssh)
    assert (found.host, found.user, found.port, found.folder, found.python) == (host, user, port, folder, "python3")


def test_adb_and_local() -> None:
    phone = transport_to("adb://emulator-5554?python=/data/local/tmp/python/bin/python3")
    assert phone == Adb(phone.address, "emulator-5554", python="/data/local/tmp/python/bin/python3")
    assert isinstance(transport_to("adb://192.168.1.5:5555"), Adb)
    assert transport_to("local:///mnt/x", python="/usr/bin/python3") == Local(
        "local:///mnt/x", "/mnt/x", "/usr/bin/python3"
    )


@pytest.mark.parametrize(
    "address",
    [
        "ssh://-oProxyCommand=touch${IFS}x",
        "ssh://-oProxyCommand=x@host",
        "ssh://user@-oProxyCommand=x",
        "ssh://user@ho st",
        "ssh://user@host;id",
        "ssh://user@$(id)",
        "ssh://us`id`er@host",
        "ssh://user@host:0",
        "ssh://user@host:99999",
        "ssh://user@host:22x",
        "ssh://",
        "ssh://user@",
        "ssh://host?proxy=x",
        "ssh://host#x",
        "ssh://host/a%0ab",
        "adb://-s",
        "adb://a b",
        "adb://",
        "ftp://host",
        "local://host/x",
    ],
)
def test_what_could_mean_something_else_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="--on"):
        transport_to(address)


def test_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError, match="holds a password") as refused:
        transport_to("ssh://pi:geheim@host")
    assert "geheim" not in str(refused.value)


def test_python_and_identity_are_checked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="path of an interpreter"):
        transport_to("ssh://host", python="-c")
    with pytest.raises(InputError, match="no such file"):
        transport_to("ssh://host", identity=tmp_path / "none")
    (tmp_path / "key").touch()
    with pytest.raises(InputError, match="for ssh:// only"):
        transport_to("adb://x", identity=tmp_path / "key")
