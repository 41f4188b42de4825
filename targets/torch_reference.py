"""The original as torch runs it: a saved program (`export.torch_program`), which a worker process loads without the user's code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from threading import Thread, current_thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from export.bundle.manifest import Runtime
from export.errors import UnsupportedError
from export.model import OnnxModel
from targets.base import FP32, Arrays, Engine, LayerTime, Needs, Profile, Scheme, median_call_s

if TYPE_CHECKING:
    from export.torch_program import Program


@dataclass(frozen=True)
class TorchReference:
    """A session like the others; its engine is a program that `export.to_onnx.save_reference` wrote.

    The program takes the inputs in the order of the engine's and returns a tuple of the outputs.
    """

    name: ClassVar[str] = "torch"

    @classmethod
    def runtime_module(cls) -> str:
        return "torch"

    def unavailable(self) -> str | None:
        return None

    def cannot_run(self) -> str | None:
        return None

    def schemes(self, model: OnnxModel | None = None) -> Sequence[Scheme]:
        return (FP32,)

    def compile(self, model: OnnxModel, scheme: Scheme, out: Path) -> Engine:
        raise UnsupportedError(
            f"torch: cannot compile {model.path.name}; the reference runs the original, saved by save_reference"
        )

    def needs(self, engine: Engine) -> Needs:
        return Needs(Runtime("torch", minimum="2.9", built_with=""))

    def load(self, engine: Engine, threads: int) -> TorchSession:
        return TorchSession(_open(engine, threads), engine, threads)

    def load_concurrent(self, engine: Engine, threads: int) -> Sequence[TorchSession]:
        """One model for all; torch has no mode of its own for this, each session works on one core."""
        shared = _open(engine, threads=1)
        return [TorchSession(shared, engine, threads=1) for _ in range(threads)]

    def profile(self, engine: Engine, inputs: Mapping[str, np.ndarray], threads: int, runs: int) -> Profile:
        """One layer for each kind of aten operator, the own time of all its calls: torch's profiler knows no names."""
        call_s = median_call_s(self.load(engine, threads), inputs, runs)
        with self.load(engine, threads) as session:
            taken = [_times_by_operator(session, inputs) for _ in range(2 + runs)][2:]
        names = dict.fromkeys(name for run in taken for name in run)
        layers = [LayerTime(name, name, "fp32", median(run.get(name, 0.0) for run in taken)) for name in names]
        return Profile(tuple(layers), call_s)


def _times_by_operator(session: TorchSession, inputs: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Seconds of one inference by aten operator, what it calls excluded."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        session.run(inputs)
    return {
        event.key: 1e-6 * event.self_cpu_time_total
        for event in profiler.key_averages()
        if event.key.startswith("aten::")
    }


def _open(engine: Engine, threads: int) -> Program:
    import torch

    from export.torch_program import read_program

    torch.set_num_threads(threads)
    return read_program(engine.path, [spec.name for spec in engine.inputs])


class TorchSession:
    def __init__(self, model: Program, engine: Engine, threads: int) -> None:
        self._model: Any = model
        self._threads = threads
        self._set_in: Thread | None = None
        self._names = [spec.name for spec in engine.inputs]
        self._outputs = [spec.name for spec in engine.outputs]

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        import torch

        if self._set_in is not current_thread():  # a new thread begins with OpenMP's own number, not with torch's
            torch.set_num_threads(self._threads)
            self._set_in = current_thread()
        tensors = [torch.from_numpy(inputs[name]) for name in self._names]
        with torch.inference_mode():
            results = self._model(*tensors)
        return {name: tensor.numpy() for name, tensor in zip(self._outputs, results, strict=True)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._model
