"""The measuring protocol of a run, on the device: the engine in fresh processes, beside itself as the A/A row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.device.golden import golden_samples, pools
from benchmarks.device.heat import emulation, heat
from benchmarks.device.selftest import engine_of, selftest
from benchmarks.latency import CONTROL, Protocol, measure
from benchmarks.machine import STATE, library_versions, machine, state
from export.bundle.verify import Bundle
from export.errors import InputError, QualityError
from export.progress import Track, silent

SCHEMA = "edge-compress device 1"
MODEL = "model"


def measured_here(
    bundle: Bundle, folder: Path, protocol: Protocol, batch_sizes: Iterable[int] = (1,), track: Track = silent
) -> dict[str, Any]:
    """Selftest, then latency of an unpacked bundle's engine at each batch size; plain values for JSON.

    The inputs are the golden ones; a batch is made of as many of them, in turns. Of a model that writes whole answers are timed,
    and under "first_token" the first token of each.

    Raises:
        QualityError: if the engine does not answer as where it was packed: its times would be of something else.
        InputError: if the engine takes no batch of that size.
    """
    tested = selftest(bundle.manifest, folder, protocol.threads)
    if not tested.passed:
        raise QualityError(f"{bundle.path.name}: {tested.findings[0]}; its speed is not measured")
    _, engine = engine_of(bundle.manifest, folder)
    singles = pools(golden_samples(bundle.manifest, folder))[0]
    fixed = {spec.shape[0] for spec in engine.inputs if spec.shape and isinstance(spec.shape[0], int)}
    for size in batch_sizes:
        if fixed and fixed != {size}:
            raise InputError(f"--batch {size}: the engine has its batch fixed at {min(fixed)}")
    inputs = {size: [_batch(singles, first, size) for first in range(len(singles))] for size in batch_sizes}
    sizes: dict[str, int] = {}
    if engine.generation is not None:
        from benchmarks.device.answers_timed import first_tokens, whole_answers

        engine, sizes = whole_answers(engine, bundle.manifest, singles[0])
    before = machine()  # after the selftest: the cores are awake, as they are when the last block ends
    found = measure({MODEL: engine}, inputs, protocol, control=MODEL, track=track)
    first = first_tokens(engine, inputs, protocol, sizes, track) if sizes else None
    after = state()
    timings, again = found[MODEL].timings, found[CONTROL].timings
    return {
        "schema": SCHEMA,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "label": before.get("board", before["cpu"]),
        "bundle": {"name": bundle.manifest.name, "digest": bundle.digest},
        "files": {name: bundle.manifest.files[name].sha256 for name in bundle.manifest.engine["files"]},
        "target": engine.target,
        "scheme": engine.scheme,
        "protocol": asdict(protocol),
        "latency": [asdict(each.latency(sizes)) for each in timings.values()],
        **({} if first is None else {"first_token": first}),
        "control": {str(size): asdict(again[size].faster_than(timings[size])) for size in timings},
        "footprint": asdict(found[MODEL].footprint),
        "selftest": asdict(tested),
        "findings": list(found[MODEL].findings),
        "warnings": [*emulation(before), *heat(before[STATE], after)],
        "machine": before,
        "state_after": after,
        "versions": library_versions(),
    }


def _batch(singles: list[Mapping[str, np.ndarray]], first: int, size: int) -> dict[str, np.ndarray]:
    chosen = [singles[(first + offset) % len(singles)] for offset in range(size)]
    return {name: np.concatenate([inputs[name] for inputs in chosen]) for name in chosen[0]}
