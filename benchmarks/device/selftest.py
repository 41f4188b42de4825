"""Does the model load on this machine, does it answer as where it was packed, and how long do the first calls take?"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.device.golden import Sample, Selftest, golden_samples
from benchmarks.worker import first_line
from export.bundle.manifest import Manifest
from export.errors import CompressError, EnvironmentFailure, UnsupportedError
from targets import REGISTRY, Engine, Session, Target, load, target_class
from targets.isa import architecture


def selftest(manifest: Manifest, folder: Path, threads: int = 1) -> Selftest:
    """Load an unpacked bundle's engine and run its golden inputs, one after the other.

    Raises:
        EnvironmentFailure: if the runtime is missing, or this is another kind of machine than the engine is for.
        SecurityError: if the engine may not be loaded here.
    """
    target, engine = engine_of(manifest, folder)
    samples = golden_samples(manifest, folder)
    __import__(type(target).runtime_module())
    start = time.perf_counter()
    with loaded(target, engine, threads) as session:
        load_s = time.perf_counter() - start
        if engine.generation is not None:
            from benchmarks.device.written import judged

            return judged(session, samples, manifest.golden.tolerance["logits"], engine.generation, load_s)
        taken, answers = zip(*(_timed(session, inputs) for inputs, _ in samples))
    findings, closest = compared(samples, answers, manifest.golden.tolerance)
    following = float(np.median(taken[1:])) if len(taken) > 1 else taken[0]
    return Selftest(len(samples), load_s, taken[0], following, findings, closest)


def engine_of(manifest: Manifest, folder: Path) -> tuple[Target, Engine]:
    """The target and the engine of an unpacked bundle.

    Raises:
        EnvironmentFailure: if it cannot run here: runtime, processor or GPU are missing or others.
        UnsupportedError: if this toolkit knows no such target.
    """
    runtime, name = manifest.runtime, manifest.engine["target"]
    if name not in (known := REGISTRY.names()):
        raise UnsupportedError(f"the bundle is for target {name!a}; known: {', '.join(known)}")
    if runtime.architecture not in ("any", architecture()):
        raise EnvironmentFailure(
            f"the engine is compiled for {runtime.architecture}, this machine is {architecture()}; "
            "pack the run again for this platform"
        )
    target = target_class(name)()
    reason = target.cannot_run()
    if reason is not None:
        raise EnvironmentFailure(f"{reason.partition(';')[0]}; pip install '{runtime.package}>={runtime.minimum}'")
    return target, Engine.from_json(manifest.engine, folder)


@contextmanager
def loaded(target: Target, engine: Engine, threads: int) -> Iterator[Session]:
    """The engine's session; whatever the runtime raises becomes one sentence.

    Raises:
        CompressError: what the target raised, or UnsupportedError with the runtime's first line.
    """
    try:
        with load(target, engine, threads) as session:
            yield session
    except CompressError:
        raise
    except Exception as error:  # the boundary to a vendor's runtime
        raise UnsupportedError(
            f"{engine.target}: the runtime refuses the engine or its inputs: {first_line(error)}"
        ) from error


def compared(
    samples: Sequence[Sample], answers: Sequence[Mapping[str, np.ndarray]], tolerance: Mapping[str, float]
) -> tuple[tuple[str, ...], float]:
    """A sentence for each output with a difference beyond its tolerance, and the largest share of a tolerance found."""
    worst: dict[str, tuple[float, int]] = {}
    for index, ((_, expected), found) in enumerate(zip(samples, answers)):
        for name, array in expected.items():
            difference = _difference(array, found.get(name))
            if name not in worst or difference > worst[name][0]:
                worst[name] = difference, index
    findings = [
        f"output '{name}' {_told(samples[index][1][name], answers[index].get(name), difference)} at golden input {index}, "
        f"{tolerance[name]:.3g} is allowed"
        for name, (difference, index) in worst.items()
        if difference > tolerance[name]
    ]
    return tuple(findings), max((_share(found, tolerance[name]) for name, (found, _) in worst.items()), default=0.0)


def _timed(session: Session, inputs: Mapping[str, np.ndarray]) -> tuple[float, dict[str, np.ndarray]]:
    start = time.perf_counter()
    outputs = session.run(inputs)
    taken = time.perf_counter() - start
    return taken, {name: np.array(output) for name, output in outputs.items()}


def _difference(expected: np.ndarray, found: np.ndarray | None) -> float:
    """The largest; infinite for another shape, or a NaN or infinity that the other has not."""
    if found is None or found.shape != expected.shape:
        return float("inf")
    one, other = expected.astype(np.float64), found.astype(np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.where((one == other) | (np.isnan(one) & np.isnan(other)), 0.0, np.abs(one - other))
    return float(np.nan_to_num(apart, nan=np.inf, posinf=np.inf).max(initial=0.0))


def _told(expected: np.ndarray, found: np.ndarray | None, difference: float) -> str:
    if found is None:
        return "is missing"
    if found.shape != expected.shape:
        return f"has shape {list(found.shape)} instead of {list(expected.shape)}"
    if not np.isfinite(difference):
        return "is NaN or infinite in other places than expected"
    return f"differs by {difference:.3g}"


def _share(difference: float, allowed: float) -> float:
    return difference / allowed if allowed else float(difference > 0) and float("inf")
