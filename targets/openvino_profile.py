"""What OpenVINO tells of a compiled model: its operators, the precision each runs in, and the time each takes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from statistics import median
from typing import Any

import numpy as np

from targets.base import LayerTime

BLOCKS = 4
"""Times a model is compiled afresh to be profiled: its counters only ever add up."""
WARMUP, LONG_US = 3, 30
_NOT_OPERATORS = ("Const", "Input", "Output")
_PRECISIONS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "i8": "int8", "u8": "int8"}
_PRODUCTS = ("Convolution", "Deconvolution", "FullyConnected", "FullyConnectedQuantizedLegacy", "MatMul", "Pooling")


def operators_by_precision(compiled: Any) -> dict[str, int]:
    """Executed operators of the runtime graph by precision; constants, inputs and outputs do not count."""
    counts = Counter(_precision(operator) for operator in _operators(compiled))
    return dict(sorted(counts.items()))


def layer_times(compile_model: Callable[[], Any], inputs: Mapping[str, np.ndarray], runs: int) -> tuple[LayerTime, ...]:
    """Each operator's median time; operators that took no time at all are left out.

    Args:
        compile_model: compiles afresh, with PERF_COUNT on.
    """
    blocks = [_readings(compile_model(), inputs, max(4, runs // BLOCKS)) for _ in range(BLOCKS)]
    operators = blocks[0][0]
    times = [typical_s([block[index] for _, block in blocks]) for index in range(len(operators))]
    return tuple(_layer(operator, time_s) for operator, time_s in zip(operators, times, strict=True) if time_s > 0)


def typical_s(blocks: Sequence[Sequence[int]]) -> float:
    """Median seconds of a run after the warm-up, from an operator's counters in several blocks.

    Each block has a reading after each run: the average since the block began, in whole microseconds. Between two
    readings lies one run's time, known to as many microseconds as runs were made; that is enough for LONG operators,
    and tells a run that was interrupted. For shorter ones the mean of a block, which is finer, stands for its runs.
    Each run's time and each average are cut: half a microsecond is added back for each.
    """
    single = [
        now * run - before * (run - 1)
        for block in blocks
        for run, (before, now) in enumerate(zip(block, block[1:]), start=2)
        if run > WARMUP
    ]
    means = [
        (block[-1] * len(block) - block[WARMUP - 1] * WARMUP) / (len(block) - WARMUP) for block in blocks if block[-1]
    ]
    if not means:
        return 0.0
    typical_us = median(single) if median(means) >= LONG_US else median(means)
    return 1e-6 * max(0.0, typical_us + 1.0)


def _readings(compiled: Any, inputs: Mapping[str, np.ndarray], runs: int) -> tuple[Sequence[Any], list[list[int]]]:
    """The runtime graph's operators, and for each its counter in microseconds after every run.

    The counters are read from the profiling information: to build the runtime graph after each run takes so much memory
    that the next run's first product waits for it (measured: 5 ms instead of 0.3).
    """
    request = compiled.create_infer_request()
    readings = []
    for _ in range(WARMUP + runs):
        request.infer(dict(inputs))
        told = request.get_profiling_info()
        readings.append([entry.real_time // timedelta(microseconds=1) for entry in told])
    counters: dict[str, list[list[int]]] = defaultdict(list)
    for entry, *counter in zip(told, *readings, strict=True):
        if counter[0] or counter[-1]:
            counters[entry.node_name].append(list(counter))
    operators = _operators(compiled)
    never = [0] * len(readings)
    return operators, [counters[name].pop(0) if counters[name] else never for name in map(_name, operators)]


def _name(operator: Any) -> str:
    return str(operator.get_friendly_name())


def _operators(compiled: Any) -> list[Any]:
    """In the order of execution."""
    ordered = compiled.get_runtime_model().get_ordered_ops()
    counted = [operator for operator in ordered if _told(operator, "layerType") not in _NOT_OPERATORS]
    return sorted(counted, key=lambda operator: int(_told(operator, "execOrder")))


def _layer(operator: Any, time_s: float) -> LayerTime:
    return LayerTime(
        name=_name(operator),
        operator=_told(operator, "layerType"),
        precision=_precision(operator),
        time_s=time_s,
        inputs=tuple(_shape(operator.get_input_partial_shape(index)) for index in range(operator.get_input_size())),
        outputs=tuple(_shape(operator.get_output_partial_shape(index)) for index in range(operator.get_output_size())),
    )


def _precision(operator: Any) -> str:
    """u8 counts as INT8 only in products and pooling: elsewhere it is mostly a mask of booleans."""
    layer, precision = _told(operator, "layerType"), _told(operator, "runtimePrecision")
    return "other" if precision == "u8" and layer not in _PRODUCTS else _PRECISIONS.get(precision, "other")


def _told(operator: Any, key: str) -> str:
    return str(operator.get_rt_info()[key].astype(str))


def _shape(partial: Any) -> tuple[int, ...]:
    """Empty where an axis is still open."""
    return tuple(int(extent) for extent in partial.to_shape()) if partial.is_static else ()
