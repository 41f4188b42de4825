"""What OpenVINO tells of a compiled model: its operators, the precision each runs in, and the time each takes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from targets.base import LayerTime, call_s

if TYPE_CHECKING:
    from targets.openvino.session import OpenVinoSession

BLOCKS = 4
"""Times a model is compiled afresh to be profiled: its counters only ever add up."""
WARMUP, LONG_US = 3, 30
STEPS = 7
"""Calls that are timed behind one filling of a cache, which is a token longer after each of them."""
_NOT_OPERATORS = ("Const", "Input", "Output")
_PRECISIONS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "i8": "int8", "u8": "int8"}
_PRODUCTS = ("Convolution", "Deconvolution", "FullyConnected", "FullyConnectedQuantizedLegacy", "MatMul", "Pooling")


def operators_by_precision(compiled: Any) -> dict[str, int]:
    """Executed operators of the runtime graph by precision; constants, inputs and outputs do not count."""
    counts = Counter(_precision(operator) for operator in _operators(compiled))
    return dict(sorted(counts.items()))


def layer_times(
    compile_model: Callable[[], Any], inputs: Mapping[str, np.ndarray], runs: int, past: int | None = None
) -> tuple[LayerTime, ...]:
    """Each operator's median time; operators that took no time at all are left out.

    Args:
        compile_model: compiles afresh, with PERF_COUNT on.
        past: tokens in the cache of a decoder that keeps it; None for any other model.
    """
    measured = max(4, runs // BLOCKS)
    calls = [*calls_behind(inputs, past, WARMUP, measured)]
    blocks = [_readings(compile_model(), calls) for _ in range(BLOCKS)]
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


def median_behind_s(session: OpenVinoSession, inputs: Mapping[str, np.ndarray], runs: int, past: int) -> float:
    """As `median_call_s`, of a decoder that keeps its cache, with `past` tokens in it."""
    warmup, taken = 2, list[float]()
    calls = [*calls_behind(inputs, past, warmup, STEPS)]
    with session:
        while len(taken) < STEPS + runs:
            seconds = []
            for empty, given in calls:
                if empty:
                    session.forget()
                seconds.append(call_s(session, given))
            taken += seconds[warmup:]
    return median(taken[STEPS:])


def calls_behind(
    inputs: Mapping[str, np.ndarray], past: int | None, warmup: int, measured: int
) -> Iterator[tuple[bool, Mapping[str, np.ndarray]]]:
    """The inputs of `warmup` + `measured` calls, and whether the cache is to be emptied before each.

    The first call fills the cache, so that the one in the middle of the measured calls has `past` tokens behind it: each goes on
    from the last, as while an answer is written. With `past` 0 each call begins with an empty cache.
    """
    if not past:
        yield from [(past == 0, inputs)] * (warmup + measured)
        return
    filled = max(1, past - (warmup - 1) - measured // 2)
    yield True, {**inputs, "input_ids": np.repeat(inputs["input_ids"][:, :1], filled, axis=1)}
    yield from [(False, inputs)] * (warmup + measured - 1)


def _readings(
    compiled: Any, calls: Sequence[tuple[bool, Mapping[str, np.ndarray]]]
) -> tuple[Sequence[Any], list[list[int]]]:
    """The runtime graph's operators, and for each its counter in microseconds after every run.

    The counters are read from the profiling information: to build the runtime graph after each run takes so much memory
    that the next run's first product waits for it (measured: 5 ms instead of 0.3).
    """
    request = compiled.create_infer_request()
    readings = []
    for empty, inputs in calls:
        if empty:
            request.reset_state()
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
