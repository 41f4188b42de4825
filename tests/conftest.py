"""What all tests share."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from benchmarks import latency, worker
from tests.forked import Forks

FORKS = Forks()


def pytest_collection_finish() -> None:
    """What was imported stays: the garbage collector need not look through it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def quick(request: pytest.FixtureRequest) -> Iterator[None]:
    """Less measuring in modules of which no test that runs compares times, for it is most of a whole run.

    Timed blocks are a tenth as long; outside the tests of measuring itself a run takes no further processes for what noise
    left wide, and its processes are forked.
    """
    compares = any(
        item.get_closest_marker("timing") is not None
        for item in request.session.items
        if item.getparent(pytest.Module) is request.node
    )
    with pytest.MonkeyPatch.context() as patch:
        if not compares:
            patch.setattr(latency, "BLOCK_S", latency.BLOCK_S / 10)
            patch.setattr(latency, "WARMUP_S", latency.WARMUP_S / 10)
            if "benchmarks" not in request.path.relative_to(request.config.rootpath).parts:
                patch.setattr(latency, "_narrow", lambda timed, pairs, half_width: True)
                patch.setattr(worker, "start_process", FORKS.start)
        yield
