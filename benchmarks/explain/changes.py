"""What would make an engine faster, each with its estimated gain; a change without a figure is not one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from benchmarks.explain.figures import Change, Explanation, Layer, Subject
from benchmarks.explain.layer_work import CONVERSIONS, LANES, padded
from benchmarks.render.wording import milliseconds, significant, times

WORTH = 0.01
"""A change that saves less of a call than this share is not told."""
LARGER_BATCH = 8
"""How many times as many samples a call the advice on dispatch speaks of."""
NOISE = 1.05
"""Ratio of two times of the same layer up to which they count as equal."""
ELEMENTWISE = frozenset(
    {"Add", "Sub", "Mul", "Div", "Erf", "Tanh", "Sqrt", "Pow", "Relu", "Sigmoid", "Clip", "Exp", "Neg", "Where"}
    | {"Eltwise", "Subgraph", "Gelu", "FastGelu", "HardSwish", "QLinearAdd", "QLinearMul", "QLinearSigmoid"}
)


def changes(found: Explanation, subject: Subject) -> list[Change]:
    """All that are worth telling, the most valuable first."""
    everything = [
        *_another_target(found, subject),
        *_float_instead(found),
        *_islands(found),
        *_conversions(found, subject),
        *_padding(found),
        *_dispatch(found),
        *_chains(found),
        *_memory(found),
        *_prune(found),
    ]
    worth = [change for change in everything if change.gain_s >= WORTH * found.call_s]
    return sorted(worth, key=lambda change: -change.gain_s)


def _another_target(found: Explanation, subject: Subject) -> Iterable[Change]:
    """What another runtime of the same run ships, measured there on the same inputs."""
    if not subject.others:
        return
    name, call_s = min(subject.others.items(), key=lambda item: item[1])
    if call_s * NOISE < found.call_s:
        yield Change(
            f"Ship {name} where the device allows it: the same model takes {milliseconds(call_s)} ms there, "
            f"{milliseconds(found.call_s)} ms here.",
            found.call_s - call_s,
        )


def _float_instead(found: Explanation) -> Iterable[Change]:
    """FP32 for all, or for the products that lose; the second only where it beats the first."""
    if not found.is_int8 or found.fp32_call_s is None:
        return
    whole_s = found.call_s - found.fp32_call_s
    if found.call_s > NOISE * found.fp32_call_s:
        yield Change(
            f"Ship FP32 on this machine: {milliseconds(found.fp32_call_s)} ms instead of {milliseconds(found.call_s)} in INT8.",
            whole_s,
        )
    losing = [
        layer
        for layer in found.layers
        if layer.fp32_s is not None and layer.time.precision == "int8" and layer.time.time_s > NOISE * layer.fp32_s
    ]
    int8_s, fp32_s = sum(layer.time.time_s for layer in losing), sum(layer.fp32_s or 0.0 for layer in losing)
    if losing and int8_s - fp32_s > max(0.0, NOISE * whole_s):
        yield Change(
            f"Leave {_products(losing)} float: {milliseconds(int8_s)} ms in INT8, {milliseconds(fp32_s)} ms in FP32 "
            f"({_names(losing)}).",
            int8_s - fp32_s,
        )


def _islands(found: Explanation) -> Iterable[Change]:
    """Float products in an INT8 engine, at the speed-up that its INT8 products of the same kind have."""
    for island in found.islands:
        gain = int8_speedup(found, island.kind)
        if island.kind == "other" or gain is None or gain < NOISE:
            continue
        names = ", ".join(island.names[:3]) + (", ..." if len(island.names) > 3 else "")
        yield Change(
            f"Quantize {len(island.names)} {island.operator} that stay{'s' if len(island.names) == 1 else ''} float "
            f"({names}): {island.why}. They take {milliseconds(island.time_s)} ms; "
            f"in INT8 others of their kind are {times(gain)}x as fast.",
            island.time_s * (1 - 1 / gain),
        )


def int8_speedup(found: Explanation, kind: str) -> float | None:
    """How much faster this engine's INT8 products of a kind are than their FP32 selves; else by the machine's peaks."""
    pairs = [
        (layer.fp32_s, layer.time.time_s)
        for layer in found.layers
        if layer.work.kind == kind and layer.time.precision == "int8" and layer.fp32_s is not None
    ]
    int8_s = sum(time_s for _, time_s in pairs)
    return sum(fp32_s for fp32_s, _ in pairs) / int8_s if int8_s else found.roofline.int8_gain(kind)


def _conversions(found: Explanation, subject: Subject) -> Iterable[Change]:
    """What is converted beyond what the FP32 engine converts as well; each with its own dispatch."""
    own = found.conversions
    theirs = [layer for layer in found.fp32_layers if layer.operator in CONVERSIONS]
    more = len(own) - len(theirs)
    gain_s = sum(layer.time.time_s for layer in own) - sum(layer.time_s for layer in theirs)
    if not own or gain_s <= 0:
        return
    kinds = ", ".join(f"{count} {name}" for name, count in Counter(layer.time.operator for layer in own).most_common(3))
    where = "Quantize the operators between them, or none of them" if found.is_int8 else "Keep one layout throughout"
    yield Change(
        f"{where}: {kinds} run on their own and take {milliseconds(sum(layer.time.time_s for layer in own))} ms"
        + (f", in FP32 {milliseconds(sum(layer.time_s for layer in theirs))}" if subject.fp32 else "")
        + ".",
        gain_s + max(0, more) * found.roofline.dispatch_s,
    )


def _padding(found: Explanation) -> Iterable[Change]:
    """Output channels just above a multiple of LANES; the last product's are the model's answers and stay.

    A layer that is faster than its padded multiply-adds could be at the peak is not padded so far: nothing is advised.
    """
    products = [layer for layer in found.layers if layer.work.weight_bytes]
    groups: dict[int, list[Layer]] = defaultdict(list)
    for layer in products[:-1]:
        channels = layer.work.channels_out
        paid = (layer.peak_share or 0.0) <= 1 - layer.work.padding
        if channels % LANES and channels > LANES and layer.bound == "compute" and paid:
            groups[channels].append(layer)
    for channels, layers in groups.items():
        full = padded(channels)
        time_s = sum(layer.time.time_s for layer in layers)
        yield Change(
            f"Keep {full - LANES} instead of {channels} channels in {_products(layers)} ({_names(layers)}), or take {full} for the "
            f"same price: kernels work on {LANES} at a time, so {channels} cost like {full}; they take {milliseconds(time_s)} ms.",
            time_s * LANES / full,
        )


def _dispatch(found: Explanation) -> Iterable[Change]:
    """More samples a call share what a call costs besides its layers. The gain is per sample, at LARGER_BATCH times as many."""
    share = found.dispatch_s / found.call_s
    if share >= 0.1:
        batch = found.batch_size * LARGER_BATCH
        yield Change(
            f"Batch the samples where you can wait for them: calling and dispatch take {100 * share:.0f} % at batch "
            f"{found.batch_size} ({len(found.layers)} operators); at batch {batch} each sample pays an eighth of it.",
            found.dispatch_s * (1 - 1 / LARGER_BATCH),
        )


def _chains(found: Explanation) -> Iterable[Change]:
    """Elementwise operators that follow one another on the same shape: fused, a chain takes what its longest takes."""
    gain_s, operators = 0.0, Counter[str]()
    for chain in _elementwise_chains(found.layers):
        taken = [layer.time.time_s for layer in chain]
        gain_s += sum(taken) - max(taken)
        operators.update(layer.time.operator for layer in chain)
    if operators:
        kinds = ", ".join(f"{count} {name}" for name, count in operators.most_common(4))
        yield Change(
            f"Give the runtime elementwise operators that it can fuse (Gelu in place of Div, Erf, Add, Mul; a bias inside its "
            f"product): {kinds} pass over the same numbers one after another; fused, a chain takes what its longest takes.",
            gain_s,
        )


def _elementwise_chains(layers: Sequence[Layer]) -> Iterable[list[Layer]]:
    """Runs of two and more."""
    chain: list[Layer] = []
    for layer in layers:
        fits = layer.time.operator in ELEMENTWISE and layer.time.outputs
        if chain and not (fits and layer.time.outputs[0] == chain[-1].time.outputs[0]):
            if len(chain) > 1:
                yield chain
            chain = []
        if fits:
            chain.append(layer)
    if len(chain) > 1:
        yield chain


def _memory(found: Explanation) -> Iterable[Change]:
    """Float products that wait for their weights: in 8 bits they are a quarter."""
    waiting = [
        layer
        for layer in found.layers
        if layer.bound == "memory"
        and layer.work.weight_bytes > layer.work.activation_bytes
        and layer.time.precision == "fp32"
        and layer.reached >= 0.5
    ]
    time_s, bytes_moved = sum(layer.time.time_s for layer in waiting), sum(layer.work.weight_bytes for layer in waiting)
    if waiting:
        yield Change(
            f"Give {_products(waiting)} weights of 8 bits ({_names(waiting)}): bound by memory, they read "
            f"{significant(bytes_moved / 1e6)} MB a call in {milliseconds(time_s)} ms; a quarter of the bytes would do.",
            time_s * 3 / 4,
        )


def _prune(found: Explanation) -> Iterable[Change]:
    """The most costly size of product: what LANES output channels fewer are worth."""
    groups: dict[tuple[int, int, int, str], list[Layer]] = defaultdict(list)
    products = [layer for layer in found.layers if layer.work.weight_bytes]
    for layer in products[:-1]:
        if layer.bound == "compute" and layer.work.channels_out >= 2 * LANES:
            work = layer.work
            groups[work.channels_in, work.channels_out, work.macs, layer.time.operator].append(layer)
    if not groups:
        return
    layers = max(groups.values(), key=lambda group: sum(layer.time.time_s for layer in group))
    work, time_s = layers[0].work, sum(layer.time.time_s for layer in layers)
    fewer = max(LANES, work.channels_out // 4 // LANES * LANES)
    yield Change(
        f"Prune here first: {_products(layers)} of {work.channels_in} to {work.channels_out} channels take "
        f"{milliseconds(time_s)} ms, {100 * time_s / found.call_s:.0f} % of a call ({_names(layers)}). {fewer} output channels "
        "fewer would save this, if accuracy bears it:",
        time_s * fewer / work.channels_out,
    )


def _products(layers: Sequence[Layer]) -> str:
    """'12 matrix products'."""
    kinds = {layer.work.kind for layer in layers}
    word = {"matmul": "matrix product", "convolution": "convolution"}[kinds.pop()] if len(kinds) == 1 else "product"
    return f"{len(layers)} {word}{'' if len(layers) == 1 else 's'}"


def _names(layers: Sequence[Layer]) -> str:
    """The three most costly, by name."""
    by_cost = sorted(layers, key=lambda layer: -layer.time.time_s)
    return ", ".join(layer.time.name for layer in by_cost[:3]) + (", ..." if len(layers) > 3 else "")
