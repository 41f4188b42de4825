"""How tests import a module of an example: as a run does, with the example's folder in front of the path."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

Load = Callable[[str, str], ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """load("digits", "workload") is examples/digits/workload.py, under a name that other examples do not use.

    What it imports from beside it goes after the test, for another example may have a namesake.
    """

    def load(example: str, module: str) -> ModuleType:
        name = f"{example}_{module}"
        if name in sys.modules:
            return sys.modules[name]
        monkeypatch.syspath_prepend(EXAMPLES / example)
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / example / f"{module}.py")
        assert spec is not None and spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, loaded)
        spec.loader.exec_module(loaded)
        return loaded

    yield load
    inside = f"{EXAMPLES}{os.sep}"
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(inside):
            del sys.modules[name]
