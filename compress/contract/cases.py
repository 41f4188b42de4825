"""Which targets, networks and schemes the tests run on, and the FP32 engines that they share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from compress.contract import networks
from compress.quantize.model import quantize_model
from export.model import OnnxModel
from targets import FP32, REGISTRY, Arrays, Engine, Scheme, Target, target_class

NETWORKS: dict[str, tuple[Callable[[Path], OnnxModel], Callable[..., Arrays]]] = {
    "convolutional": (networks.convolutional, networks.images),
    "attention": (networks.attention, networks.sentences),
}
TOLERANCE = {"fp32": 1e-5, "bf16": 0.03, "fp16": 0.005, "int8": 0.1, "int4": 0.2}
"""Largest difference over the spread of the logits: half a step of FP32 sums, of 11 bits, of 8 bits, of 7-bit weights, of 4-bit weights."""

ARGUMENTS = ("name", "scheme_name", "network")


def parametrize(metafunc: pytest.Metafunc, names: Sequence[str]) -> None:
    """Run a test on each of these targets; with each of its schemes and each network, where the test asks for them.

    Raises:
        UsageError: if there is none: a suite that tests nothing must not pass.
    """
    asked = [argument for argument in ARGUMENTS if argument in metafunc.fixturenames]
    if not asked:
        return
    if not names:
        raise pytest.UsageError(
            f"no installed distribution registers a target in the group {REGISTRY.group}; see docs/extending.md"
        )
    cases = []
    for name in names:
        schemes = _scheme_names(name) if "scheme_name" in asked else [""]
        choices = {"name": [name], "scheme_name": schemes, "network": list(NETWORKS)}
        cases += list(product(*(choices[argument] for argument in asked)))
    metafunc.parametrize(asked, cases, ids=["-".join(case) for case in cases])


def _scheme_names(name: str) -> list[str]:
    """Of a target that cannot even tell them, FP32: its tests fail and say why, the collection does not."""
    try:
        return [scheme.name for scheme in target_class(name)().schemes()]
    except Exception:  # the boundary to another author's class
        return [FP32.name]


@dataclass(frozen=True)
class Built:
    """A network compiled in FP32 by a target; the engine's files lie in `folder`, and nothing else."""

    target: Target
    model: OnnxModel
    inputs: Callable[..., Arrays]
    folder: Path
    engine: Engine

    def batch(self, samples: int, seed: int = 0) -> Arrays:
        """Inputs of that many samples, or of as many as the engine takes if it takes no other number."""
        fixed = self.engine.inputs[0].shape[0]
        return self.inputs(fixed if isinstance(fixed, int) else samples, seed=seed)


@pytest.fixture
def target(name: str) -> Target:
    """The target with its default fields; a test of one that cannot compile here is skipped with the reason."""
    found: Target = REGISTRY.load(name)()
    if reason := found.unavailable():
        pytest.skip(reason)
    return found


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Built]:
    """Compile in FP32 for a target, each network once."""
    kept: dict[tuple[str, str], Built] = {}

    def make(target: Target, network: str = "convolutional") -> Built:
        if (target.name, network) not in kept:
            folder, (write, inputs) = tmp_path_factory.mktemp("built"), NETWORKS[network]
            model = write(folder / "model.onnx")
            engine = compiled(target, model, FP32, [], folder)
            kept[target.name, network] = Built(target, model, inputs, folder / "engine", engine)
        return kept[target.name, network]

    return make


def compiled(target: Target, model: OnnxModel, scheme: Scheme, calibration: list[Arrays], folder: Path) -> Engine:
    """The engine in folder/engine of the model with what its scheme inserts."""
    quantized = model
    if scheme.quantizer != "none":
        quantized = quantize_model(model, calibration, scheme, folder / "quantized.onnx")
    out = folder / "engine"
    out.mkdir()
    return target.compile(quantized, scheme, out)


def skip_unless_it_runs(target: Target) -> None:
    if reason := target.cannot_run():
        pytest.skip(reason)


def files_under(folder: Path) -> set[str]:
    """Every file below a folder, by its path from there."""
    found = (Path(place) / name for place, _, names in os.walk(folder) for name in names)
    return {file.relative_to(folder).as_posix() for file in found}
