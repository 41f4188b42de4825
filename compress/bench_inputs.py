"""The arrays that latency is measured on: real samples at the batch size and axis sizes that the recipe names."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from compress.recipe import Recipe
from compress.recipe_settings import Benchmark
from compress.workload import Workload, to_numpy
from export.calling import call
from export.errors import InputError, in_words
from export.parity import inputs_at
from export.trace import evaluating
from targets.generation import SOURCE_TOKENS, prompt_length
from targets.openvino import OpenVino

DISTINCT = 8
"""Inputs of a pool; timed calls vary them further."""
POOL_BYTES = 64 << 20
"""Of a pool that is sent to every worker; fewer inputs where they are large."""


def timing_pool(
    workload: Workload,
    benchmark: Benchmark,
    batch_size: int,
    samples: Iterable[Mapping[str, Tensor]],
    names: Collection[str] | None = None,
) -> list[dict[str, np.ndarray]]:
    """Distinct inputs at `batch_size` and at the recipe's `benchmark.sizes`; other axes keep the example's size.

    Args:
        samples: named inputs, one sample each, as the workload's batches hold them. They are gone through again where
            they are too few.
        names: of the inputs that are taken; None takes all. A prompt is not all that a whole forward reads.

    Raises:
        InputError: if `sizes` names an axis that the workload does not have.
    """
    check_sizes(workload, benchmark)
    sizes = _example_sizes(workload) | dict(benchmark.sizes)
    size_bytes = batch_size * sum(tensor.nbytes // len(tensor) for tensor in workload.example_inputs.values())
    distinct = max(2, min(DISTINCT, POOL_BYTES // max(size_bytes, 1)))
    taken = [
        {name: tensor for name, tensor in sample.items() if names is None or name in names}
        for sample in itertools.islice(samples, distinct * batch_size)
    ]
    axes = {name: named for name, named in workload.dynamic_axes.items() if name in taken[0]}
    fitting = [inputs_at(sample, axes, sizes) for sample in taken]
    rows = itertools.islice(itertools.cycle(fitting), distinct * batch_size)
    # zip of one iterator with itself cuts it into groups; itertools.batched is of Python 3.12.
    groups = zip(*[rows] * batch_size, strict=True)
    return [to_numpy({name: torch.cat([row[name] for row in group]) for name in group[0]}) for group in groups]


def check_sizes(workload: Workload, benchmark: Benchmark) -> None:
    """Refuse `benchmark.sizes` that name an axis which the workload does not have, lengths and batches it cannot take.

    Raises:
        InputError: with the axes that it has.
    """
    axes = axis_names(workload)
    unknown = sorted(set(benchmark.sizes) - set(axes))
    if unknown:
        known = ", ".join(axes) or "none"
        raise InputError(f"benchmark.sizes: no dynamic axis '{unknown[0]}' in the workload; its dynamic axes: {known}")
    if benchmark.lengths and prompt_length(workload.example_inputs) is None:
        read = ", ".join(workload.example_inputs)
        raise InputError(f"benchmark.lengths: the workload reads no prompts of tokens but {read}; leave lengths out")
    fixed = {
        len(tensor) for name, tensor in workload.example_inputs.items() if 0 not in workload.dynamic_axes.get(name, {})
    }
    other = sorted(set(benchmark.batch_sizes) - fixed)
    if fixed and other:
        raise InputError(
            f"benchmark.batch_sizes: {other[0]}, but the workload's batch is fixed at {min(fixed)}; "
            "name axis 0 of every input in dynamic_axes"
        )


def check_model_at_sizes(workload: Workload, benchmark: Benchmark) -> None:
    """Refuse sizes that will be timed and at which the model itself fails: more tokens than it has positions for, say.

    Of a model that writes, the longest answer counts: behind the prompt, or, of an encoder-decoder, by itself.

    Raises:
        InputError: with the sizes and what the model says.
    """
    sizes, writing = _example_sizes(workload) | dict(benchmark.sizes), workload.writing
    named = ", ".join(f"{axis} {size}" for axis, size in sizes.items())
    if writing is not None:
        prompt, answer = _second_axis(workload, SOURCE_TOKENS), max(writing.timed, writing.generation.new_tokens)
        length = max(sizes.get(prompt, 0), *benchmark.lengths, 0)
        named = f"prompts of {length} and answers of {answer} tokens" if prompt else f"answers of {answer} tokens"
        if writing.generation.start is None:
            sizes[prompt] = length + answer - 1  # the last token is written and not read
        else:
            sizes |= {prompt: length, _second_axis(workload, "decoder_input_ids"): answer}
    inputs = inputs_at(workload.example_inputs, workload.dynamic_axes, sizes)
    try:
        with evaluating(workload.model):
            call(workload.model, inputs)
    except Exception as error:  # the user's forward can raise anything
        raise InputError(
            f"benchmark: at {named or 'the size of its example'} the model fails in torch ({in_words(error)}); name other "
            f"sizes{'' if writing is None else ', or fewer tokens of an answer (new_tokens)'}"
        ) from error


def _second_axis(workload: Workload, name: str) -> str:
    """Name of an input's axis 1, where its size may vary."""
    return workload.dynamic_axes.get(name, {}).get(1, "")


def check_shapes(workload: Workload, recipe: Recipe) -> None:
    """Refuse shapes that a target fixes and that the workload does not have, or the benchmark would not time.

    Raises:
        InputError: with what the benchmark asks for.
    """
    batches = {axes[0] for axes in workload.dynamic_axes.values() if 0 in axes}
    timed = {name: {size} for name, size in (_example_sizes(workload) | dict(recipe.benchmark.sizes)).items()}
    timed |= {name: set(recipe.benchmark.batch_sizes) for name in batches}
    for target in (target for target in recipe.targets if isinstance(target, OpenVino)):
        for axis, extent in target.shapes.items():
            if axis not in timed:
                known = ", ".join(sorted(timed)) or "none"
                raise InputError(
                    f"openvino.shapes: no dynamic axis '{axis}' in the workload; its dynamic axes: {known}"
                )
            if timed[axis] != {extent}:
                key, asked = "batch_sizes" if axis in batches else "sizes", ", ".join(map(str, sorted(timed[axis])))
                raise InputError(
                    f"openvino.shapes.{axis}: {extent}, but benchmark.{key} asks for {asked}; give both the same, or leave "
                    f"{axis} out of shapes"
                )


def axis_names(workload: Workload) -> list[str]:
    """Names of the dynamic axes other than the batch, in order of appearance."""
    named = [name for axes in workload.dynamic_axes.values() for axis, name in axes.items() if axis != 0]
    return list(dict.fromkeys(named))


def _example_sizes(workload: Workload) -> dict[str, int]:
    """The example's size of each dynamic axis but the batch."""
    return {
        axis_name: workload.example_inputs[name].shape[axis]
        for name, axes in workload.dynamic_axes.items()
        for axis, axis_name in axes.items()
        if axis != 0
    }
