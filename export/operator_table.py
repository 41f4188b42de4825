"""The exporter's table of ONNX operators, made once a process.

torch.onnx reads the signatures of all functions of onnxscript's library, more than 500, at every export.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_TABLES: dict[tuple[tuple[str, Any], ...], Any] = {}
"""By what is asked of it: the opset."""


@contextmanager
def made_once() -> Iterator[None]:
    """While it lasts the exporter is given the table that was made first, of which it only reads (torch 2.13).

    A torch that keeps its table elsewhere makes it each time.
    """
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        registry: Any = ONNXRegistry
        before, make = vars(registry)["from_torchlib"], registry.from_torchlib
    except (ImportError, KeyError):
        yield
        return

    def table(**settings: Any) -> Any:
        key = tuple(sorted(settings.items()))
        if key not in _TABLES:
            _TABLES[key] = make(**settings)
        return _TABLES[key]

    try:
        registry.from_torchlib = staticmethod(table)
        yield
    finally:
        registry.from_torchlib = before
