"""Where a device is, as the user writes it: a URL becomes a transport, and nothing in it can be taken for an option."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from compress.device.adb import Adb
from compress.device.local import Local
from compress.device.ssh import Ssh
from compress.device.transport import Transport
from export.errors import InputError

KNOWN = "ssh://[user@]host[:port][/folder], adb://SERIAL[/folder][?python=PATH], local://[/folder]"

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]{0,63}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,252})|[0-9A-Fa-f:]+")
_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


def is_address(word: str) -> bool:
    return "://" in word


def transport_to(address: str, python: str | None = None, identity: Path | None = None) -> Transport:
    """The transport to an address.

    Args:
        python: the interpreter on the device, instead of the transport's own.
        identity: a private key, for ssh.

    Raises:
        InputError: if the address is of no known form, or a part of it could mean something else to a program.
    """
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise InputError(f"--on {address}: {error}; known: {KNOWN}") from error
    folder = unquote(parts.path).rstrip("/")
    asked = parse_qs(parts.query)
    if parts.fragment or asked.keys() - {"python"} or re.search(r"[\0-\37]", address + folder):
        raise InputError(f"--on {address}: holds what no address has; known: {KNOWN}")
    found: dict[str, str] = {"folder": folder} if folder else {}
    if named := python or "".join(asked.get("python", [])):
        found["python"] = _checked_python(named)
    if identity is not None and (parts.scheme != "ssh" or not identity.is_file()):
        why = "is for ssh:// only" if parts.scheme != "ssh" else "there is no such file"
        raise InputError(f"--identity {identity}: {why}")
    if parts.scheme == "ssh":
        return _ssh(address, port, identity, found)
    if parts.scheme == "adb":
        serial = parts.netloc
        _check(address, "serial number", serial, _SERIAL)
        return Adb(address, serial, **found)
    if parts.scheme == "local" and not parts.netloc:
        return Local(address, **found)
    raise InputError(f"--on {address}: known: {KNOWN}")


def _ssh(address: str, port: int | None, identity: Path | None, found: dict[str, str]) -> Ssh:
    parts = urlsplit(address)
    user, _, place = parts.netloc.rpartition("@")
    if ":" in user:
        raise InputError("--on ssh://: holds a password; ssh takes keys only here: --identity KEY, or your ssh config")
    if user:
        _check(address, "user", user, _USER)
    host = place[1:].partition("]")[0] if place.startswith("[") else place.partition(":")[0]
    _check(address, "host", host, _HOST)
    if port == 0:
        raise InputError(f"--on {address}: port 0; allowed: 1 to 65535")
    return Ssh(address, host, user or None, port, identity, **found)


def _check(address: str, what: str, found: str, allowed: re.Pattern[str]) -> None:
    if not allowed.fullmatch(found):
        raise InputError(f"--on {address}: {what} {found!a} holds what no {what} has, or is missing; known: {KNOWN}")


def _checked_python(python: str) -> str:
    if python.startswith("-") or re.search(r"[\0-\37]", python):
        raise InputError(f"--python {python!a}: the path of an interpreter on the device is meant")
    return python
