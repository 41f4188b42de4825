"""What `compress pack` prints."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.device.words import verified_line
from benchmarks.render.wording import byte_size
from compress.pack import Packed


def packed_lines(packed: Packed) -> Iterable[str]:
    """What was written, what it is made of, and what to do with it."""
    manifest, path = packed.bundle.manifest, packed.bundle.path
    yield verified_line(packed.bundle)
    yield (
        f"model {byte_size(packed.model_bytes)}, golden inputs {byte_size(packed.golden_bytes)}, "
        f"all else {byte_size(packed.overhead_bytes)}"
    )
    runtime = manifest.runtime
    where = "" if runtime.architecture == "any" else f" on {runtime.architecture}"
    yield f"on the device{where}: Python 3.9 or later, pip install numpy '{runtime.package}>={runtime.minimum}', then:"
    if path.is_dir():
        yield f"  python {path.name}/runner.pyz selftest"
    else:
        yield f"  unzip -p {path.name} runner.pyz > runner.pyz && python runner.pyz selftest {path.name}"
