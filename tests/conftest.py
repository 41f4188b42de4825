"""What all tests share."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from benchmarks import latency


def pytest_collection_finish() -> None:
    """What was imported stays: the garbage collector need not look through it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def short_blocks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Timed blocks a tenth as long in modules of which no test that runs compares times: most of a whole run is measuring."""
    compares = any(
        item.get_closest_marker("timing") is not None
        for item in request.session.items
        if item.getparent(pytest.Module) is request.node
    )
    with pytest.MonkeyPatch.context() as patch:
        if not compares:
            patch.setattr(latency, "BLOCK_S", latency.BLOCK_S / 10)
            patch.setattr(latency, "WARMUP_S", latency.WARMUP_S / 10)
        yield
