"""The exporter's table of ONNX operators, made once a process.

torch.onnx reads the signatures of some 700 functions of onnxscript at every export: half the time that a small model's takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_TABLES: dict[int, Any] = {}
"""By opset."""


@contextmanager
def made_once() -> Iterator[None]:
    """While it lasts the exporter is given the table that was made first, of which it only reads (torch 2.13).

    A torch that keeps its table elsewhere makes it each time.
    """
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry
    except ImportError:
        yield
        return
    registry: Any = ONNXRegistry
    before, make = vars(registry)["from_torchlib"], registry.from_torchlib

    def table(opset_version: int) -> Any:
        if opset_version not in _TABLES:
            _TABLES[opset_version] = make(opset_version=opset_version)
        return _TABLES[opset_version]

    try:
        registry.from_torchlib = staticmethod(table)
        yield
    finally:
        registry.from_torchlib = before
