"""What the figures of an engine say, a sentence each: where its time goes, what INT8 can gain here, and what it did gain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from benchmarks.explain.changes import NOISE, int8_speedup
from benchmarks.explain.figures import Explanation, Layer, Subject
from benchmarks.explain.layer_work import CONVERSIONS, work_of
from benchmarks.render.wording import milliseconds, ratio, significant, times

KIND_WORDS = {"convolution": "convolution", "matmul": "matrix product"}
WEAK = 0.5
"""Share of the peak under which a product is called weak."""


def findings(found: Explanation, subject: Subject) -> list[str]:
    """The most telling first."""
    return [
        *_whole(found, subject),
        *_products(found, subject),
        *_between(found),
        *_torn_apart(found),
        *_ceiling(found),
        *_weak(found),
        *_dispatch(found),
        *found.roofline.notes,
    ]


def _whole(found: Explanation, subject: Subject) -> Iterable[str]:
    if found.is_int8 and found.fp32_call_s is not None:
        gain = found.fp32_call_s / found.call_s
        verdict = "slower than" if gain < 0.97 else "no faster than" if gain < 1.03 else "faster than"
        told = f"; the run measured {ratio(subject.measured)}" if subject.measured else ""
        yield (
            f"INT8 is {verdict} FP32 here: {milliseconds(found.call_s)} ms against {milliseconds(found.fp32_call_s)} "
            f"({times(gain)}x{told})."
        )


def _products(found: Explanation, subject: Subject) -> Iterable[str]:
    """Of each kind of product that INT8 runs: what it gained here, and what the machine has to give."""
    if not found.is_int8:
        return
    for kind, word in KIND_WORDS.items():
        paired = [layer for layer in _int8_products(found, kind) if layer.fp32_s is not None]
        gained, possible = int8_speedup(found, kind), found.roofline.int8_gain(kind)
        if paired and gained is not None:
            int8_s, fp32_s = sum(each.time.time_s for each in paired), sum(each.fp32_s or 0.0 for each in paired)
            yield (
                f"{len(paired)} {word}{'' if len(paired) == 1 else 's'}: {milliseconds(fp32_s)} ms in FP32, "
                f"{milliseconds(int8_s)} in INT8 ({times(gained)}x)."
            )
        if _int8_products(found, kind) and possible is not None:
            peaks = found.roofline.peaks[kind]
            verdict = "is what INT8 can gain on" if possible > NOISE else "says that INT8 has nothing to gain on"
            yield (
                f"A large {word} reaches {_giga(peaks['fp32'])} in FP32 and {_giga(peaks['int8'])} in INT8 with this runtime: "
                f"{times(possible)}x {verdict} {word}s here."
            )
    if subject.slow_int8:
        yield subject.slow_int8[0].upper() + subject.slow_int8[1:] + "."


def _between(found: Explanation) -> Iterable[str]:
    """What else runs beside the products, before and after quantization."""
    if not found.is_int8 or not found.fp32_layers:
        return
    rest = [layer.time.time_s for layer in found.layers if not layer.work.macs]
    rest_fp32 = [layer.time_s for layer in found.fp32_layers if not work_of(layer).macs]
    conversions, conversions_fp32 = (
        found.conversions,
        [layer for layer in found.fp32_layers if layer.operator in CONVERSIONS],
    )
    yield (
        f"Everything but products: {len(rest)} operators, {milliseconds(sum(rest))} ms in INT8; {len(rest_fp32)} operators, "
        f"{milliseconds(sum(rest_fp32))} ms in FP32. Of them only convert: {len(conversions)}, "
        f"{milliseconds(sum(layer.time.time_s for layer in conversions))} ms in INT8; {len(conversions_fp32)}, "
        f"{milliseconds(sum(layer.time_s for layer in conversions_fp32))} ms in FP32."
    )


def _torn_apart(found: Explanation) -> Iterable[str]:
    """Kinds of operator that only the FP32 engine has: mostly what a runtime fuses as long as no Q/DQ stands between."""
    if not found.is_int8:
        return
    mine = {layer.time.operator for layer in found.layers}
    lost: dict[str, list[float]] = defaultdict(list)
    for layer in found.fp32_layers:
        if layer.operator not in mine and not work_of(layer).macs and layer.operator not in CONVERSIONS:
            lost[layer.operator].append(layer.time_s)
    taken_s = sum(map(sum, lost.values()))
    if taken_s > 0.01 * found.call_s:
        kinds = ", ".join(f"{len(times_s)} {operator}" for operator, times_s in lost.items())
        yield (
            f"Only FP32 has {kinds} ({milliseconds(taken_s)} ms): what the runtime fuses in float it runs as single "
            f"operators in INT8."
        )


def _ceiling(found: Explanation) -> Iterable[str]:
    """Amdahl's law: FP32's call with each kind of product at the machine's ratio of peaks, and all else as it is."""
    if not found.is_int8 or found.fp32_call_s is None:
        return
    saved_s = 0.0
    for layer in found.fp32_layers:
        gain = found.roofline.int8_gain(work_of(layer).kind)
        saved_s += layer.time_s * (1 - 1 / gain) if gain else 0.0
    if saved_s < found.fp32_call_s:
        best = found.fp32_call_s / (found.fp32_call_s - saved_s)
        yield (
            f"With every product at that gain and nothing added, INT8 would be {times(best)}x as fast as FP32: "
            "no scheme beats that here with this runtime."
        )


def _weak(found: Explanation) -> Iterable[str]:
    weak = [layer for layer in found.layers if layer.peak_share is not None and layer.peak_share < WEAK]
    time_s = sum(layer.time.time_s for layer in weak)
    if time_s > 0.1 * found.call_s:
        peak = sum((layer.peak_share or 0.0) * layer.time.time_s for layer in weak) / time_s
        yield (
            f"{len(weak)} of {sum(1 for layer in found.layers if layer.work.macs)} products reach less than half of the "
            f"measured peak, {100 * peak:.0f} % on average: they take {milliseconds(time_s)} ms. "
            "Their shapes are too small, or not what the runtime's kernels are made for."
        )


def _dispatch(found: Explanation) -> Iterable[str]:
    yield (
        f"Calling and dispatch: {milliseconds(found.dispatch_s)} ms, {100 * found.dispatch_s / found.call_s:.0f} % of a call "
        f"({len(found.layers)} operators; one more costs {significant(1e6 * found.roofline.dispatch_s, 2)} µs, an empty call "
        f"{significant(1e6 * found.roofline.empty_call_s, 2)} µs)."
    )


def _int8_products(found: Explanation, kind: str) -> list[Layer]:
    return [layer for layer in found.layers if layer.work.kind == kind and layer.time.precision == "int8"]


def _giga(per_s: float) -> str:
    return f"{significant(per_s / 1e9)} G multiply-adds/s"
