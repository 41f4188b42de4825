"""Workload: what the user brings. A model, how to call it, its data, its loss and its metric."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.metrics import Metric
from benchmarks.preprocessing import Preprocessing
from compress.generation.parts import Writing
from export.errors import InputError

Batch = tuple[dict[str, Tensor], Tensor]
"""Named inputs, each with the batch as its first axis, and the target with the batch as its first axis."""

Transform = Callable[[dict[str, Tensor], torch.Generator], dict[str, Tensor]]


@runtime_checkable
class Batches(Protocol):
    """Anything that can be iterated again and again for (inputs, target): a DataLoader, a list, TensorBatches."""

    def __iter__(self) -> Iterator[Batch]: ...


@dataclass(frozen=True)
class TensorBatches:
    """Batches over tensors in memory, shuffled by epoch when asked, with an optional augmentation.

    Args:
        inputs: named tensors, the sample as first axis.
        target: one entry a sample.
        batch_size: samples a batch; the last batch may be smaller.
        shuffle: a new order at every pass, drawn from `seed` and the number of the pass.
        transform: called with each batch's inputs and the pass's generator (augmentation, padding to the longest).
    """

    inputs: Mapping[str, Tensor]
    target: Tensor
    batch_size: int
    shuffle: bool = False
    seed: int = 0
    transform: Transform | None = None
    _passes: list[int] = field(default_factory=lambda: [0], repr=False, compare=False)

    def __post_init__(self) -> None:
        lengths = {name: len(tensor) for name, tensor in self.inputs.items()} | {"target": len(self.target)}
        if len(set(lengths.values())) != 1:
            raise InputError(f"TensorBatches: inputs and target must have the same number of samples, found {lengths}")

    @property
    def samples(self) -> int:
        return len(self.target)

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(self.seed + 1_000_003 * self._passes[0])
        self._passes[0] += 1
        order = torch.randperm(self.samples, generator=generator) if self.shuffle else torch.arange(self.samples)
        for rows in torch.split(order, self.batch_size):
            inputs = {name: tensor[rows] for name, tensor in self.inputs.items()}
            yield (self.transform(inputs, generator) if self.transform else inputs), self.target[rows]

    def at_pass(self, number: int) -> TensorBatches:
        """The same batches whose next iteration is pass `number`: an interrupted training resumes in order."""
        return replace(self, _passes=[number])

    def take(self, rows: Tensor, **changes: object) -> TensorBatches:
        """The batches of a subset of samples; `changes` replaces other fields."""
        inputs = {name: tensor[rows] for name, tensor in self.inputs.items()}
        return replace(self, inputs=inputs, target=self.target[rows], _passes=[0], **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Workload:
    """All that the toolkit knows of a model. Made by the user's function, named in the recipe.

    Args:
        model: in float32 on the CPU, with its trained weights.
        example_inputs: the model's inputs by their ONNX names, in the order of `forward`; batch as first axis, 2 or
            more samples. See `export.calling.call` for how they reach the model.
        dynamic_axes: for each input its axes that vary, by name: {"input_ids": {0: "batch", 1: "length"}}.
        train: batches to learn from.
        evaluation: batches on which the report's accuracy is measured; never trained, calibrated or chosen on.
        loss: outputs and target -> scalar.
        metric: see benchmarks.metrics.
        validation: batches on which every choice is made; None holds a fixed tenth of `train` (a TensorBatches) back.
        calibration: batches for INT8 ranges; None uses `train` without shuffling and augmentation.
        output_names: ONNX names of the outputs.
        class_names: what the report calls the classes 0, 1, ...; empty, they go by their numbers.
        baseline: the metric that the original is known to reach on `evaluation`; the run stops if it does not.
        baseline_tolerance: how far from `baseline` the measured value may be.
        student: a smaller network with the same inputs and outputs, trained or not; `distill` is then the first step,
            and starts from it instead of the original.
        preprocessing: how an image or a text becomes the model's input, for who runs the artifact: `compress pack` puts
            it into the bundle, and the runner's `predict` carries it out. Training and evaluation never use it.
        licence: of the model, as the bundle shall state it.
        writing: of a language model that answers prompts: the parts that ship in the place of the whole forward, and how they
            write. The steps still train and prune the whole forward, on `train` and `validation`.
        notes: what was decided about the data and is to be told: `compress check` and the report show it.
    """

    model: nn.Module
    example_inputs: Mapping[str, Tensor]
    dynamic_axes: Mapping[str, Mapping[int, str]]
    train: Batches
    evaluation: Batches
    loss: Callable[[Tensor, Tensor], Tensor]
    metric: Metric
    validation: Batches | None = None
    calibration: Batches | None = None
    output_names: tuple[str, ...] = ("logits",)
    class_names: tuple[str, ...] = ()
    baseline: float | None = None
    baseline_tolerance: float = 0.0
    student: nn.Module | None = None
    preprocessing: Preprocessing | None = None
    licence: str | None = None
    writing: Writing | None = None
    notes: tuple[str, ...] = ()

    @property
    def judge(self) -> Metric:
        """The metric of what ships: of the written text where the workload says how that is judged."""
        return self.writing.metric if self.writing is not None and self.writing.metric is not None else self.metric


def to_numpy(inputs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Named tensors as contiguous arrays for the engines."""
    return {name: np.ascontiguousarray(tensor.detach().cpu().numpy()) for name, tensor in inputs.items()}
