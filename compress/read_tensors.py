"""Reading a weights file that nobody vouches for: safetensors or torch, tensors only, no code of the file is run."""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from export.errors import InputError, SecurityError

NESTED_UNDER = ("state_dict", "model_state_dict", "model")
"""Keys under which trainers keep the weights beside the optimizer, the epoch and so on."""

OF_TENSORS = ("collections", "torch", "torch._utils", "torch.serialization", "torch.storage")
"""Modules whose globals stand in pickles of plain tensors."""

LONGEST_HEADER = 100_000_000
"""Bytes, the format's own limit."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The named tensors of a .safetensors file or of a torch file, told apart by their content.

    Raises:
        InputError: if the file is missing, damaged, or holds no tensors.
        SecurityError: if it is a pickle that needs code to be run.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: no weights file there ({error.strerror}); check the path") from error
    if not content:
        raise InputError(f"{path}: the weights file is empty (0 bytes); copy or download it again")
    if not _begins_as_safetensors(content) and (content[:2] == b"PK" or content[:1] == b"\x80"):
        return _tensors_of(_read_torch(path, content), path)
    return _read_safetensors(path, content)


def read_torch(path: Path) -> Any:
    """What a torch file holds, plain values and tensors only.

    Raises:
        InputError, SecurityError: as `read_tensors`.
    """
    return _read_torch(path, path.read_bytes())


def _read_safetensors(path: Path, content: bytes) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(content)
    except SafetensorError as error:
        expected = _safetensors_size(content)
        if expected is not None and expected != len(content):
            raise InputError(
                f"{path}: the weights file is not whole: {len(content)} bytes found, {expected} expected from its header; "
                "copy or download it again"
            ) from error
        raise _not_a_checkpoint(path, content, str(error)) from error
    return tensors


def _begins_as_safetensors(content: bytes) -> bool:
    """Whether a length that the format allows and a JSON object come first.

    The length may well begin with a pickle's first byte: one header in 32 does, since lengths are multiples of 8.
    """
    return content[8:9] == b"{" and int.from_bytes(content[:8], "little") <= LONGEST_HEADER


def _safetensors_size(content: bytes) -> int | None:
    """The size in bytes that the header promises; None where there is no such header.

    Source: https://huggingface.co/docs/safetensors/index#format: 8 bytes header length, JSON header, tensors.
    """
    header_bytes = int.from_bytes(content[:8], "little")
    if len(content) < 10 or content[8:9] != b"{":
        return None
    try:
        header = json.loads(content[8 : 8 + header_bytes])
        return (
            8
            + header_bytes
            + max((entry["data_offsets"][1] for entry in header.values() if "dtype" in entry), default=0)
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return 8 + header_bytes if header_bytes < LONGEST_HEADER else None


def _read_torch(path: Path, content: bytes) -> Any:
    _check_archive(path, content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about pickle protocols
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if refused := _refused_global(error, content):
            raise SecurityError(
                f"{path}: refused: loading it would run '{refused}', and a weights file may hold tensors only. "
                "Where you trust the file, load it in a script of your own and save the tensors: "
                "torch.save(model.state_dict(), 'weights.pt')"
            ) from error
        raise _not_a_checkpoint(path, content, "its pickle is damaged or not torch's") from error
    except (
        Exception
    ) as error:  # damaged bytes surface as any of EOFError, KeyError, IndexError, UnicodeDecodeError, ...
        raise _not_a_checkpoint(path, content, f"{type(error).__name__} while reading it") from error


def _check_archive(path: Path, content: bytes) -> None:
    """torch does not compare the checksums of its zip archive: a flipped bit would become a weight."""
    if content[:2] != b"PK":
        return
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, ValueError, OSError, NotImplementedError) as error:
        raise _not_a_checkpoint(path, content, "its zip archive is damaged or cut short") from error
    if damaged is not None:
        raise _not_a_checkpoint(path, content, f"the checksum of its part '{damaged}' does not fit")
    if any("/code/" in name for name in names):
        raise SecurityError(
            f"{path}: refused: it is a TorchScript archive, which is code; a weights file may hold tensors only. "
            "Save model.state_dict() instead"
        )


def _refused_global(error: pickle.UnpicklingError, content: bytes) -> str:
    """The global that the unpickler refused, else the first in the pickle; empty if plain tensors explain them all.

    A name that was cut with the file ends in a dot or lies in a module of plain tensors.
    """
    told = re.findall(r"GLOBAL ([\w.]+\w) ", str(error))
    named = (*told, *_globals(_pickle_of(content)))
    return next((name for name in named if name.rpartition(".")[0] not in OF_TENSORS), "")


def _pickle_of(content: bytes) -> bytes:
    if content[:2] != b"PK":
        return content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return next((archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")), b"")


def _globals(content: bytes) -> Iterator[str]:
    """The globals that a pickle names, read without running it."""
    texts: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "GLOBAL":
                yield str(argument).replace(" ", ".")
            elif opcode.name == "STACK_GLOBAL":
                yield ".".join(texts[-2:])
            elif isinstance(argument, str):
                texts.append(argument)
    except (ValueError, IndexError, UnicodeDecodeError):
        return  # the damaged rest names nothing


def _not_a_checkpoint(path: Path, content: bytes, reason: str) -> InputError:
    return InputError(
        f"{path}: not a whole weights file ({len(content)} bytes found): {reason}; a .safetensors file or a file of "
        "torch.save(model.state_dict(), ...) is needed. Copy or download it again"
    )


def _tensors_of(value: Any, path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint; descends into the keys where trainers keep them."""
    for key in NESTED_UNDER:
        if isinstance(value, Mapping) and isinstance(value.get(key), Mapping):
            return _tensors_of(value[key], path)
    if not isinstance(value, Mapping):
        raise InputError(f"{path}: holds a {type(value).__name__}; a dict of named tensors is needed")
    others = [str(name) for name, entry in value.items() if not isinstance(entry, Tensor)]
    if others or not value:
        raise InputError(
            f"{path}: a dict of named tensors is needed, at the top or under {', '.join(NESTED_UNDER)}; "
            f"found {len(others)} entries that are no tensors: {', '.join(others[:5]) or 'nothing at all'}"
        )
    return {str(name): tensor for name, tensor in value.items()}
