"""A model that writes, in torch: its parts called by the same loop as the compiled ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.metrics import Metric
from compress.generation.parts import Part, Writing
from export.errors import InputError
from export.model import TensorSpec
from export.trace import evaluating
from targets.base import Arrays
from targets.generation.session import GenerationSession


class TorchPart:
    """A part as a session: arrays in, arrays out."""

    def __init__(self, part: Part) -> None:
        self._part = part

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        tensors = [torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in self._part.example_inputs]
        with torch.inference_mode():
            outputs = self._part.module(*tensors)
        return {name: tensor.numpy() for name, tensor in zip(self._part.output_names, outputs, strict=True)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def session_in_torch(model: nn.Module, writing: Writing) -> GenerationSession:
    """The model's parts as one session; the model is to be in eval mode while it runs."""
    parts = writing.parts(model)
    return GenerationSession(
        {name: TorchPart(part) for name, part in parts.items()}, specs_of(parts["decoder"]), writing.generation
    )


def evaluate_written(
    model: nn.Module, writing: Writing, batches: Iterable[tuple[Mapping[str, Tensor], Tensor]], metric: Metric
) -> np.ndarray:
    """The metric's statistics of what the model writes, shape (samples, k).

    Raises:
        InputError: if there is no batch.
    """
    rows = []
    with evaluating(model):
        session = session_in_torch(model, writing)
        for inputs, target in batches:
            tokens = session.run({name: tensor.numpy() for name, tensor in inputs.items()})["tokens"]
            rows.append(metric.statistics(tokens, target.numpy()))
    if not rows:
        raise InputError(f"{metric.name}: there are no prompts to answer; give at least one")
    return np.concatenate(rows)


def specs_of(part: Part) -> list[TensorSpec]:
    """The part's inputs as the exported model will have them."""
    return [
        TensorSpec(
            name,
            str(tensor.dtype).removeprefix("torch."),
            tuple(part.dynamic_axes.get(name, {}).get(axis, extent) for axis, extent in enumerate(tensor.shape)),
        )
        for name, tensor in part.example_inputs.items()
    ]
