"""From `workload:` of a recipe to a checked Workload: the user's code is run, or a ready-made one built, and what comes of it looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from compress.from_pixels import from_pixels
from compress.ready import ReadyContext
from compress.recipe import Recipe
from compress.user_code import called, guarded
from compress.workload import Batches, TensorBatches, Workload, to_numpy
from export.calling import call
from export.errors import CompressError, InputError

HELD_OUT = 0.1
"""Share of the training samples that serves as validation where the user gives none."""


def load_workload(recipe: Recipe) -> Workload:
    """Call the user's function or build the ready-made workload; check what comes; give it a validation set if it has none.

    Raises:
        InputError: if it cannot be imported or called, or returns the wrong thing; names the user's own line.
        CompressError: what the user's function itself raised in the toolkit's terms passes through.
    """
    workload, where = _made(recipe)
    if not isinstance(workload, Workload):
        raise InputError(f"{where}: must return a compress.Workload, returned {type(workload).__name__}")
    _check_fields(workload, where)
    if recipe.budget.worst_class_drop is not None and not workload.metric.classifies:
        raise InputError(
            f"{recipe.path.name}: budget.worst_class_drop: metric '{workload.metric.name}' of {where} does not classify; "
            "remove the line, or use a metric that does"
        )
    _check_call(workload, where)
    _check_student(workload, recipe, where)
    for name in ("train", "validation", "calibration", "evaluation"):
        _check_batches(workload, name, where)
    workload = with_validation(workload, where)
    return from_pixels(workload, where) if recipe.export.fuse_preprocessing else workload


def with_validation(workload: Workload, where: str) -> Workload:
    """The workload itself, or one whose validation is every tenth training sample, held back from training."""
    if workload.validation is not None:
        return workload
    if not isinstance(workload.train, TensorBatches):
        raise InputError(
            f"{where}: validation is None and train is a {type(workload.train).__name__}, which cannot be split; "
            "give validation batches, or train as compress.TensorBatches"
        )
    rows = torch.arange(workload.train.samples)
    held = rows % round(1 / HELD_OUT) == 0
    fields = vars(workload) | {
        "validation": workload.train.take(rows[held], shuffle=False, transform=None),
        "train": workload.train.take(rows[~held]),
    }
    return Workload(**fields)


def _made(recipe: Recipe) -> tuple[Any, str]:
    """What the recipe's function returns, or the ready-made workload; and what stands in front of messages about it."""
    if isinstance(recipe.workload, str):
        where = recipe.workload
        return called(where, recipe.path.parent, recipe.arguments, where), where
    kind = recipe.workload.kind
    context = ReadyContext(
        folder=recipe.path.parent,
        seed=recipe.seed,
        arguments=recipe.arguments,
        where=lambda *options: recipe.where(("workload", kind, *options)),
    )
    return recipe.workload.build(context), context.where()


def _check_fields(workload: Workload, where: str) -> None:
    if not isinstance(workload.model, nn.Module):
        raise InputError(f"{where}: model must be a torch.nn.Module, found {type(workload.model).__name__}")
    if not workload.example_inputs:
        raise InputError(f"{where}: example_inputs is empty; name each input of forward with an example tensor")
    for name, tensor in workload.example_inputs.items():
        if not isinstance(tensor, torch.Tensor) or tensor.ndim < 1:
            raise InputError(f"{where}: example_inputs['{name}'] must be a tensor with the batch as first axis")
        if len(tensor) < 2:
            raise InputError(f"{where}: example_inputs['{name}'] has a batch of {len(tensor)}; give 2 samples or more")
    for name, axes in workload.dynamic_axes.items():
        if name not in workload.example_inputs:
            known = ", ".join(workload.example_inputs)
            raise InputError(f"{where}: dynamic_axes names '{name}', which is not an input; inputs: {known}")
        for axis in axes:
            rank = workload.example_inputs[name].ndim
            if not 0 <= axis < rank:
                raise InputError(f"{where}: dynamic_axes['{name}'] names axis {axis} of a tensor with {rank} axes")
    for name in ("statistics", "value", "name", "higher_is_better", "classifies"):
        if not hasattr(workload.metric, name):
            raise InputError(
                f"{where}: metric has no '{name}'; use one of docs/recipe.md (compress.Accuracy(), Perplexity(), ...) or the "
                "Metric protocol"
            )


def _check_call(workload: Workload, where: str) -> None:
    def forward() -> int:
        workload.model.eval()
        with torch.no_grad():
            return len(call(workload.model, workload.example_inputs))

    outputs = guarded(forward, where, "running the model on example_inputs")
    if outputs != len(workload.output_names):
        raise InputError(
            f"{where}: the model gives {outputs} output tensors, output_names has {len(workload.output_names)}"
        )


def _check_student(workload: Workload, recipe: Recipe, where: str) -> None:
    if workload.student is None:
        return
    first = recipe.steps[0].kind if recipe.steps else "none in torch"
    if first != "distill":
        raise InputError(
            f"{recipe.path.name}: {where} brings a student of its own, so the first step must be distill, found {first}; "
            "prune it after it was distilled, or leave the student out to prune the original"
        )
    student = workload.student

    def shapes() -> list[tuple[torch.Size, ...]]:
        with torch.no_grad():
            both = [call(model.eval(), workload.example_inputs) for model in (student, workload.model)]
        return [tuple(tensor.shape for tensor in outputs) for outputs in both]

    mine, taught = guarded(shapes, where, "running the student on example_inputs")
    if mine != taught:
        raise InputError(f"{where}: the student's outputs have shapes {_listed(mine)}, the model's {_listed(taught)}")


def _listed(shapes: Sequence[Sequence[int]]) -> str:
    return ", ".join(str(tuple(shape)) for shape in shapes)


def _check_batches(workload: Workload, name: str, where: str) -> None:
    batches: Batches | None = getattr(workload, name)
    if batches is None:
        return
    if not hasattr(batches, "__iter__") or iter(batches) is batches:
        raise InputError(
            f"{where}: {name} must be iterable again and again (a DataLoader, a list, compress.TensorBatches), "
            f"found {type(batches).__name__}, which can be read once"
        )
    expected = sorted(workload.example_inputs)
    first = guarded(lambda: next(iter(batches), None), where, f"reading {name}")
    if first is None:
        raise InputError(f"{where}: {name} holds no batch; it needs at least one sample")
    if not isinstance(first, (tuple, list)) or len(first) != 2 or not isinstance(first[0], Mapping):
        raise InputError(f"{where}: {name} must give (inputs by name, target) pairs, gave {type(first).__name__}")
    inputs, target = first
    if sorted(inputs) != expected:
        raise InputError(f"{where}: {name} gives inputs {sorted(inputs)}, example_inputs has {expected}")
    lengths = {key: len(value) for key, value in inputs.items()} | {"target": len(target)}
    if len(set(lengths.values())) != 1:
        raise InputError(
            f"{where}: {name}: inputs and target of a batch must have the same number of samples, found {lengths}"
        )
    for key, example in workload.example_inputs.items():
        if inputs[key].dtype != example.dtype or inputs[key].ndim != example.ndim:
            raise InputError(
                f"{where}: {name}: input '{key}' is {inputs[key].dtype} with {inputs[key].ndim} axes, "
                f"example_inputs has {example.dtype} with {example.ndim}"
            )
    if name == "evaluation":
        _check_metric(workload, to_numpy(inputs)[expected[0]].shape[0], first, where)


def _check_metric(workload: Workload, samples: int, batch: Any, where: str) -> None:
    first = "the first evaluation batch"

    def rows() -> Any:
        with torch.no_grad():
            outputs = call(workload.model, batch[0])[0].float().numpy()
        try:
            return workload.metric.statistics(outputs, batch[1].numpy())
        except CompressError as error:
            raise type(error)(f"{where}: on {first}: {error}") from error

    statistics = guarded(rows, where, f"computing the metric on {first}")
    if getattr(statistics, "ndim", 0) != 2 or len(statistics) != samples:
        shape = getattr(statistics, "shape", type(statistics).__name__)
        raise InputError(
            f"{where}: metric.statistics must give shape ({samples}, k), one row a sample; gave {shape}. Add up the figures of "
            "a sample's tokens or pixels"
        )
    if statistics.dtype.kind != "f":
        raise InputError(
            f"{where}: metric.statistics must give floats, gave {statistics.dtype}; add .astype(numpy.float64)"
        )
    if workload.metric.classifies:
        _check_classes(statistics, where)
    guarded(lambda: float(workload.metric.value(statistics)), where, f"computing the metric's value on {first}")


def _check_classes(statistics: np.ndarray, where: str) -> None:
    if statistics.shape[1] < 2:
        raise InputError(
            f"{where}: a metric that classifies keeps the predicted class in column 0 of its statistics and the true class "
            "in column 1; gave one column"
        )
    probabilities = statistics[:, 2:3]
    if ((probabilities < 0) | (probabilities > 1)).any():
        raise InputError(
            f"{where}: column 2 of the statistics of a metric that classifies is the probability of the predicted class, "
            f"from 0 to 1; found {probabilities.min():g} to {probabilities.max():g}. Keep other figures from column 3 on"
        )
