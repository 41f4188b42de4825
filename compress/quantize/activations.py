"""Activations of an ONNX model while samples stream through it: intermediate tensors as outputs, batch by batch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from compress.quantize.histogram import Histogram
from targets.base import Arrays

if TYPE_CHECKING:
    import onnx

BATCH = 16
"""Samples that go through the model at once. More are no faster on a CPU, and each holds all observed tensors."""


def observe(model: onnx.ModelProto, tensors: Collection[str], samples: Iterable[Arrays]) -> dict[str, Histogram]:
    """A histogram of each tensor's values over all samples, read once.

    Memory: one batch of activations and 32 KB for each tensor, however many samples there are.
    """
    histograms = {name: Histogram() for name in tensors}
    for _, values in activations(model, list(histograms), samples):
        for name, array in values.items():
            histograms[name].add(array)
    return histograms


def activations(
    model: onnx.ModelProto, tensors: Sequence[str], samples: Iterable[Arrays]
) -> Iterator[tuple[Arrays, Arrays]]:
    """For each batch of samples its inputs and the values of `tensors`, computed by ONNX Runtime; nothing for no tensors."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if not tensors:
        return
    inputs = {value.name for value in model.graph.input}
    computed = [name for name in tensors if name not in inputs]
    size = BATCH if _has_free_batch(model) else 1
    if not computed:  # ONNX Runtime takes no graph without outputs
        yield from ((batch, {name: batch[name] for name in tensors}) for batch in together(samples, size))
        return
    session = onnxruntime.InferenceSession(
        with_outputs(model, computed).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    taken = {value.name for value in session.get_inputs()}
    for batch in together(samples, size):
        fed = {name: array for name, array in batch.items() if name in taken}
        values = dict(zip(computed, session.run(computed, fed), strict=True))
        yield batch, {name: batch[name] if name in inputs else values[name] for name in tensors}


def together(samples: Iterable[Arrays], most: int) -> Iterator[Arrays]:
    """Samples that follow each other joined to batches of `most`, as long as their shapes are the same."""
    waiting: list[Arrays] = []
    for sample in samples:
        if waiting and (_shapes(sample) != _shapes(waiting[0]) or sum(map(_size, waiting)) >= most):
            yield _joined(waiting)
            waiting = []
        waiting.append(sample)
    if waiting:
        yield _joined(waiting)


def with_outputs(model: onnx.ModelProto, tensors: Collection[str]) -> onnx.ModelProto:
    """A copy whose outputs are `tensors` alone, with no more nodes and constants than they need."""
    import onnx

    nodes = needed(model.graph, tensors)
    wanted = {*tensors, *(name for node in nodes for name in read_by(node))}
    copy = onnx.ModelProto()
    copy.CopyFrom(onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import))
    copy.functions.extend(model.functions)
    copy.graph.name = model.graph.name
    copy.graph.node.extend(nodes)
    copy.graph.input.extend(value for value in model.graph.input if value.name in wanted)
    copy.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in wanted)
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    return copy


def needed(graph: onnx.GraphProto, tensors: Iterable[str]) -> list[onnx.NodeProto]:
    """The nodes that `tensors` depend on, each behind those it reads: a quantizer may leave them in any order."""
    made_by = {name: index for index, node in enumerate(graph.node) for name in node.output}
    ordered: list[onnx.NodeProto] = []
    done: set[int] = set()
    pending = [(made_by[name], False) for name in reversed(list(tensors)) if name in made_by]
    while pending:
        index, ready = pending.pop()
        if ready:
            ordered.append(graph.node[index])
        elif index not in done:
            done.add(index)
            pending.append((index, True))
            pending.extend((made_by[name], False) for name in read_by(graph.node[index]) if name in made_by)
    return ordered


def read_by(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node reads, those of its subgraphs included."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from read_by(inner)


def _has_free_batch(model: onnx.ModelProto) -> bool:
    shapes = [value.type.tensor_type.shape.dim for value in model.graph.input]
    return all(len(dims) > 0 and not dims[0].HasField("dim_value") for dims in shapes)


def _shapes(sample: Arrays) -> dict[str, tuple[int, ...]]:
    return {name: array.shape[1:] for name, array in sample.items()}


def _size(sample: Arrays) -> int:
    return len(next(iter(sample.values())))


def _joined(samples: Sequence[Arrays]) -> Arrays:
    if len(samples) == 1:
        return samples[0]
    return {name: np.concatenate([sample[name] for sample in samples]) for name in samples[0]}
