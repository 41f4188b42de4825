"""The boundary to a user's Python: FILE.py:FUNCTION is imported and called; what it raises becomes a sentence with its line."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from export.errors import CompressError, InputError

_FOLDERS: set[str] = set()
"""Folders of the files that this process has imported."""


def called(reference: str, folder: Path, arguments: Mapping[str, Any], where: str) -> Any:
    """What a function of the user's returns.

    Args:
        reference: FILE.py:FUNCTION, the file relative to `folder`, or MODULE:FUNCTION.
        arguments: keywords of the function.
        where: stands in front of every message.

    Raises:
        InputError: if it cannot be imported or called; names the user's own line.
        CompressError: what the user's function itself raised in the toolkit's terms passes through.
    """
    file, _, name = reference.rpartition(":")
    with _importable(folder / file):
        function = _find(_import(file, folder, where), name, where)
        _check_arguments(function, arguments, where)
        return guarded(lambda: function(**arguments), where, "calling it")


def guarded(action: Callable[[], Any], where: str, doing: str) -> Any:
    """Run the user's code; what it raises becomes a sentence with the user's own file and line."""
    try:
        return action()
    except CompressError:
        raise
    except Exception as error:  # the boundary to the user's code: anything may come out of it
        frames = traceback.extract_tb(error.__traceback__)
        own = [
            frame for frame in frames if "site-packages" not in frame.filename and "/compress/" not in frame.filename
        ]
        place = f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
        raise InputError(f"{where}: {doing} raised {type(error).__name__}{place}: {error}") from error


@contextmanager
def _importable(file: Path) -> Iterator[None]:
    """While this lasts, the workload's file imports what lies beside it, and not a namesake beside an earlier workload."""
    folder = str(file.resolve().parent)
    for name, module in list(sys.modules.items()):
        place = os.path.dirname(getattr(module, "__file__", None) or "-")  # noqa: PTH120 - of thousands of modules
        if place in _FOLDERS and place != folder and (Path(folder) / f"{name}.py").exists():
            del sys.modules[name]
    _FOLDERS.add(folder)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _import(file: str, folder: Path, where: str) -> ModuleType:
    if not file.endswith(".py"):
        return cast(ModuleType, guarded(lambda: importlib.import_module(file), where, "importing it"))
    path = (folder / file).resolve()
    if not path.is_file():
        raise InputError(f"{where}: no file '{file}' beside the recipe; it is FILE.py:FUNCTION, relative to the recipe")
    spec = importlib.util.spec_from_file_location(f"compress_workload_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    execute = spec.loader.exec_module
    guarded(lambda: execute(module), where, "importing it")
    return module


def _find(module: ModuleType, name: str, where: str) -> Callable[..., Any]:
    function = getattr(module, name, None)
    if callable(function):
        return function  # type: ignore[no-any-return]
    defined = [
        key for key, value in vars(module).items() if inspect.isfunction(value) and value.__module__ == module.__name__
    ]
    raise InputError(f"{where}: no function '{name}' in it; it defines {', '.join(defined) or 'no function'}")


def _check_arguments(function: Callable[..., Any], arguments: Mapping[str, Any], where: str) -> None:
    signature = inspect.signature(function)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise InputError(
            f"{where}: the recipe's arguments do not fit: {error}; it takes {signature}. "
            "Mend `arguments:` or add --set arguments.NAME=VALUE"
        ) from error
