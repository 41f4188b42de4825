"""The original as torch runs it: an exported program (.pt2), which a worker process loads without the user's code."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from export.errors import EnvironmentFailure, UnsupportedError
from export.model import OnnxModel
from targets.base import FP32, Arrays, Engine, Scheme

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule


@dataclass(frozen=True)
class TorchReference:
    """A session like the others; its engine is a program that `export.to_onnx.save_reference` wrote.

    The program takes a dict of the inputs in the order of the engine's and returns a tuple of the outputs.
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

    def load(self, engine: Engine, threads: int) -> TorchSession:
        import torch

        if not zipfile.is_zipfile(engine.path):
            raise EnvironmentFailure(f"{engine.path.name}: found no torch program; it is damaged, run the recipe again")
        torch.set_num_threads(threads)
        try:
            program = torch.export.load(engine.path)
        except (RuntimeError, OSError, ValueError) as error:
            raise EnvironmentFailure(
                f"{engine.path.name}: torch {torch.__version__} cannot load it: {error}"
            ) from error
        return TorchSession(program, engine)


def _flattened(module: GraphModule) -> GraphModule:
    """The same module with its weights as its own plain attributes.

    Looked up through nested modules they make ResNet-56 at batch 1 1.11-1.13x as slow as the eager original; flat it
    is 0.93x, so that no speed-up over torch is flattered (torch 2.13, one thread of Zen 3).
    """
    for index, node in enumerate(module.graph.find_nodes(op="get_attr")):
        weight: Any = module
        for part in str(node.target).split("."):
            weight = getattr(weight, part)
        node.target = f"_flat_{index}"
        object.__setattr__(module, node.target, weight.detach() if hasattr(weight, "detach") else weight)
    module.recompile()
    return module


class TorchSession:
    def __init__(self, program: ExportedProgram, engine: Engine) -> None:
        self._model: Any = _flattened(program.module(check_guards=False))
        self._names = [spec.name for spec in engine.inputs]
        self._outputs = [spec.name for spec in engine.outputs]

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        import torch

        tensors = {name: torch.from_numpy(inputs[name]) for name in self._names}
        with torch.inference_mode():
            results = self._model(tensors)
        return {name: tensor.numpy() for name, tensor in zip(self._outputs, results, strict=True)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._model
