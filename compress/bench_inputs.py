"""The arrays that latency is measured on: the example inputs at the batch size and axis sizes that the recipe names."""

from __future__ import annotations

import numpy as np

from compress.recipe import Benchmark
from compress.workload import Workload, to_numpy
from export.errors import InputError
from export.parity import inputs_at


def timing_inputs(workload: Workload, benchmark: Benchmark, batch_size: int) -> dict[str, np.ndarray]:
    """Example inputs at `batch_size` and at the recipe's `benchmark.sizes`; other axes keep the example's size.

    Raises:
        InputError: if `sizes` names an axis that the workload does not have.
    """
    check_sizes(workload, benchmark)
    batch = {axis[0] for axis in workload.dynamic_axes.values() if 0 in axis}
    sizes = dict(benchmark.sizes) | dict.fromkeys(batch, batch_size)
    return to_numpy(inputs_at(workload.example_inputs, workload.dynamic_axes, sizes))


def check_sizes(workload: Workload, benchmark: Benchmark) -> None:
    """Refuse `benchmark.sizes` that name an axis which the workload does not have, and batches it cannot take.

    Raises:
        InputError: with the axes that it has.
    """
    axes = axis_names(workload)
    unknown = sorted(set(benchmark.sizes) - set(axes))
    if unknown:
        known = ", ".join(axes) or "none"
        raise InputError(f"benchmark.sizes: no dynamic axis '{unknown[0]}' in the workload; its dynamic axes: {known}")
    fixed = {
        len(tensor) for name, tensor in workload.example_inputs.items() if 0 not in workload.dynamic_axes.get(name, {})
    }
    other = sorted(set(benchmark.batch_sizes) - fixed)
    if fixed and other:
        raise InputError(
            f"benchmark.batch_sizes: {other[0]}, but the workload's batch is fixed at {min(fixed)}; "
            "name axis 0 of every input in dynamic_axes"
        )


def axis_names(workload: Workload) -> list[str]:
    """Names of the dynamic axes other than the batch, in order of appearance."""
    named = [name for axes in workload.dynamic_axes.values() for axis, name in axes.items() if axis != 0]
    return list(dict.fromkeys(named))
