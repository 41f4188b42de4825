"""The contract of every target (`compress.contract`), on the targets of this toolkit."""

from __future__ import annotations

import pytest

from compress.contract.cases import build, parametrize, target  # noqa: F401 - fixtures
from compress.contract.test_packed import *  # noqa: F403
from compress.contract.test_session import *  # noqa: F403
from compress.contract.test_target import *  # noqa: F403
from targets import TARGETS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    parametrize(metafunc, list(TARGETS))
