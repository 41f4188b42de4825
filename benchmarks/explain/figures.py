"""For each layer of an engine its time, its work and what bounds it, and what all of it comes to.

Everything here is arithmetic on a profile, a roofline and the model's own Q/DQ; nothing is measured.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from benchmarks.explain.graph import Quantization, find
from benchmarks.explain.layer_work import CONVERSIONS, Work, work_of
from benchmarks.explain.roofline import Roofline
from benchmarks.measurements import Interval
from targets import LayerTime, Profile

CREDIBLE_S = 50e-6
"""Times of this length are not made by the runtime's clock of whole microseconds."""

Bound = Literal["compute", "memory", "dispatch"]


@dataclass(frozen=True)
class Layer:
    """One executed operator.

    `share` is of the whole call. `peak_share` is of the machine's measured peak for this kind of product in this
    precision, None where nothing is multiplied. `reached` is the time that its bound asks for over the time it took.
    `fp32_s` is what the same layer takes in the FP32 engine, where that was profiled and has it.
    """

    time: LayerTime
    work: Work
    share: float
    peak_share: float | None
    bound: Bound
    reached: float
    fp32_s: float | None = None


@dataclass(frozen=True)
class Island:
    """Operators of one kind that stayed float in an INT8 engine, for one reason."""

    operator: str
    why: str
    names: tuple[str, ...]
    time_s: float
    kind: Literal["convolution", "matmul", "other"]


@dataclass(frozen=True)
class Change:
    """A change in plain words and what it would save of a call, by the figures it names."""

    sentence: str
    gain_s: float


@dataclass(frozen=True)
class Subject:
    """What is explained, and all that is known of it.

    Args:
        fp32: the profile of the same model in FP32 on the same runtime; None where the subject is that itself.
        batch_size: of the inputs that were profiled.
        others: seconds per call of what other targets of the same run ship, by "target scheme".
        measured: how many times as fast as `fp32` the run measured this engine to be, interleaved and with its interval.
        slow_int8: why this CPU gains little from INT8, see `targets.isa.slow_int8`.
        part: of a model that writes: which part, and in which of its calls.
        times: how often that call is made in an answer.
    """

    target: str
    scheme: str
    profile: Profile
    roofline: Roofline
    fp32: Profile | None = None
    quantization: Quantization = field(default_factory=dict)
    batch_size: int = 1
    others: Mapping[str, float] = field(default_factory=dict)
    measured: Interval | None = None
    slow_int8: str | None = None
    part: str = ""
    times: int = 1


@dataclass(frozen=True)
class Explanation:
    """`changes` are the most valuable first, at most three; `findings` say what is so, a sentence each."""

    target: str
    scheme: str
    batch_size: int
    call_s: float
    fp32_call_s: float | None
    layers: tuple[Layer, ...]
    islands: tuple[Island, ...]
    dispatch_s: float
    roofline: Roofline
    fp32_layers: tuple[LayerTime, ...] = ()
    findings: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    part: str = ""
    times: int = 1

    @property
    def title(self) -> str:
        """What is explained, in words."""
        return f"{self.target} {self.scheme}" + (f", {self.part}" if self.part else "")

    @property
    def conversions(self) -> tuple[Layer, ...]:
        """Quantize, dequantize and reorder operators that run on their own, not fused into a neighbour."""
        return tuple(layer for layer in self.layers if layer.time.operator in CONVERSIONS)

    @property
    def is_int8(self) -> bool:
        """Whether any product runs in INT8."""
        return any(layer.work.macs and layer.time.precision == "int8" for layer in self.layers)


def figures(subject: Subject) -> Explanation:
    """The layers with their bounds, the islands, and the dispatch; without findings and changes."""
    profile, fp32 = subject.profile, subject.fp32.layers if subject.fp32 else ()
    roofline = at_least(subject.roofline, (*profile.layers, *fp32))
    works = [work_of(layer) for layer in profile.layers]
    before = _paired(profile.layers, works, fp32)
    streamed = sum(work.weight_bytes for work in works) > roofline.cache_bytes
    layers = tuple(
        _layer(layer, work, profile.call_s, roofline, streamed, before.get(index))
        for index, (layer, work) in enumerate(zip(profile.layers, works, strict=True))
    )
    return Explanation(
        target=subject.target,
        scheme=subject.scheme,
        batch_size=subject.batch_size,
        call_s=profile.call_s,
        fp32_call_s=subject.fp32.call_s if subject.fp32 else None,
        layers=layers,
        islands=tuple(_islands(layers, subject.quantization)),
        dispatch_s=dispatch_total(profile, roofline),
        roofline=roofline,
        fp32_layers=fp32,
        part=subject.part,
        times=subject.times,
    )


def at_least(roofline: Roofline, layers: Iterable[LayerTime]) -> Roofline:
    """A peak is no less than what any layer of CREDIBLE_S or more reached: the roofline may have met a busier machine."""
    peaks = {kind: dict(by_precision) for kind, by_precision in roofline.peaks.items()}
    for layer in layers:
        work = work_of(layer)
        if layer.time_s >= CREDIBLE_S and layer.precision in peaks.get(work.kind, {}):
            peaks[work.kind][layer.precision] = max(peaks[work.kind][layer.precision], work.macs / layer.time_s)
    return replace(roofline, peaks=peaks)


def dispatch_total(profile: Profile, roofline: Roofline) -> float:
    """Seconds of a call that are spent around and between its operators.

    The larger of the call less its layers, and of an empty call with as many operators; never more than the call.
    """
    between_s = profile.call_s - sum(layer.time_s for layer in profile.layers)
    expected_s = roofline.empty_call_s + len(profile.layers) * roofline.dispatch_s
    return min(profile.call_s, max(between_s, expected_s))


def floors(work: Work, precision: str, roofline: Roofline, streamed: bool) -> dict[Bound, float]:
    """The least seconds that the machine's peak, its memory and its dispatch each ask for.

    Args:
        streamed: the weights of the whole model do not fit in the last-level cache, so each call reads them from memory.
    """
    peak = roofline.peak(work.kind, precision) if work.macs else None
    from_memory = 2 * work.activation_bytes > roofline.cache_bytes
    return {
        "compute": work.macs / peak if peak else 0.0,
        "memory": work.weight_bytes / (roofline.memory_bytes_per_s if streamed else roofline.cache_bytes_per_s)
        + work.activation_bytes / (roofline.memory_bytes_per_s if from_memory else roofline.cache_bytes_per_s),
        "dispatch": roofline.dispatch_s,
    }


def _layer(
    layer: LayerTime, work: Work, call_s: float, roofline: Roofline, streamed: bool, fp32_s: float | None
) -> Layer:
    asked = floors(work, layer.precision, roofline, streamed)
    bound = max(asked, key=lambda each: asked[each])
    return Layer(
        time=layer,
        work=work,
        share=layer.time_s / call_s,
        peak_share=asked["compute"] / layer.time_s if asked["compute"] and layer.time_s else None,
        bound=bound,
        reached=min(1.0, asked[bound] / layer.time_s) if layer.time_s else 1.0,
        fp32_s=fp32_s,
    )


def _paired(layers: Sequence[LayerTime], works: Sequence[Work], fp32: Sequence[LayerTime]) -> dict[int, float]:
    """By the index of a product its time in the FP32 engine.

    Runtimes rename what they fuse, so products are told by what they multiply: the first of a kind and size in one
    engine is the first of that kind and size in the other. A size that the two do not hold equally often is left out.
    """
    mine, theirs = defaultdict(list), defaultdict(list)
    for index, work in enumerate(works):
        if work.macs:
            mine[_size(work)].append(index)
    for layer in fp32:
        work = work_of(layer)
        if work.macs:
            theirs[_size(work)].append(layer.time_s)
    return {
        index: time_s
        for size, indices in mine.items()
        if len(indices) == len(theirs[size])
        for index, time_s in zip(indices, theirs[size], strict=True)
    }


def _size(work: Work) -> tuple[str, int, int, int, int]:
    return work.kind, work.macs, work.channels_in, work.channels_out, work.groups


def _islands(layers: Sequence[Layer], quantization: Quantization) -> Iterable[Island]:
    """Float operators of an engine that has INT8 products, the most costly first."""
    if not any(layer.work.macs and layer.time.precision == "int8" for layer in layers):
        return
    groups: dict[tuple[str, str, Literal["convolution", "matmul", "other"]], list[LayerTime]] = defaultdict(list)
    for layer in layers:
        if layer.time.precision in ("fp32", "fp16", "bf16") and layer.time.operator not in CONVERSIONS:
            groups[layer.time.operator, why_float(layer.time, quantization), layer.work.kind].append(layer.time)
    for (operator, why, kind), found in sorted(groups.items(), key=lambda item: -sum(each.time_s for each in item[1])):
        yield Island(operator, why, tuple(each.name for each in found), sum(each.time_s for each in found), kind)


def why_float(layer: LayerTime, quantization: Quantization) -> str:
    """Why an operator runs in float although the engine is INT8, by what the model says of it."""
    found = find(layer.name, quantization)
    if found is None or not found.inputs:
        return "made by the runtime; the model has no operator of this name"
    if not any(found.inputs):
        return "not quantized in the model: the quantizer leaves it float"
    if not all(found.inputs):
        return "quantized on one side only: another input has no Q/DQ in the model"
    if not found.output:
        return "its inputs are quantized, its output is not: the runtime does not fuse that"
    return "quantized in the model; the runtime has no INT8 kernel for it"
