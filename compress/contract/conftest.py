"""On which targets the suite runs when it is asked for by `pytest --pyargs compress.contract`."""

from __future__ import annotations

import pytest

from compress.contract.cases import build, parametrize, target
from targets import REGISTRY
from targets.registry import registrations

__all__ = ["build", "target"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every target that another distribution registers; `-k NAME` takes one of them."""
    parametrize(metafunc, sorted({each.name for each in registrations(REGISTRY.group)}))
