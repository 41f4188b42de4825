"""A quantized model in which every layer runs in 8 bits or in float as each call asks: what one layer costs takes no new session."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from compress.accuracy_control.dynamic_layers import DynamicLayer, add_in_float, dynamic_layers, written
from compress.accuracy_control.give_back import return_to_float, with_activation
from compress.accuracy_control.quantized_graph import QuantizedGraph, drop_unread, sort
from targets.base import Arrays

if TYPE_CHECKING:
    import onnx


class LayerSwitch:
    """The model in ONNX Runtime, computed in float with the rounding of Q/DQ, so that no kernel's own overflow counts.

    Args:
        quantized: a Q/DQ model, or one of dynamic INT8.
        original: the float model that was quantized.
        threads: of the runtime.
    """

    def __init__(self, quantized: onnx.ModelProto, original: onnx.ModelProto, threads: int = 1) -> None:
        import onnxruntime

        graph = QuantizedGraph(quantized)
        dynamic = {layer.layer: layer.operator for layer in dynamic_layers(graph, QuantizedGraph(original))}
        self.operators = {node.name: node.op_type for node in graph.quantized} | dynamic
        self.layers = tuple(self.operators)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        model = with_switches(quantized, original).SerializeToString()
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._inputs = {entry.name for entry in self._session.get_inputs()}
        self._outputs = [entry.name for entry in self._session.get_outputs()]

    def outputs(self, batches: Iterable[Arrays], quantized: Collection[str]) -> list[np.ndarray]:
        """The model's first output on each batch, the sample as first axis, with only these layers in 8 bits."""
        return [self.answers(batch, quantized) for batch in batches]

    def answers(self, inputs: Arrays, quantized: Collection[str]) -> np.ndarray:
        """What the metric reads of a batch: the first output."""
        first = self._outputs[0]
        return self.run(inputs, quantized, [first])[first].astype(np.float32)

    def run(self, inputs: Mapping[str, np.ndarray], quantized: Collection[str], wanted: Sequence[str] = ()) -> Arrays:
        """The wanted outputs, or all, of one batch."""
        feed = {**inputs, **{switch_of(name): np.array(name in quantized) for name in self.layers}}
        names = list(wanted) or self._outputs
        return dict(zip(names, self._session.run(names, {name: feed[name] for name in self._inputs}), strict=True))


def switch_of(layer: str) -> str:
    """Name of the input that is true where a layer runs in 8 bits."""
    return f"in_8_bits:{layer}"


def with_switches(quantized: onnx.ModelProto, original: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a boolean input for each quantized layer; as `give_back` where it is false."""
    import onnx
    from onnx import TensorProto, helper

    result = onnx.ModelProto()
    result.CopyFrom(quantized)
    graph, source = QuantizedGraph(result), QuantizedGraph(original)
    nodes = {node.name: node for node in graph.quantized}
    reads = {name: list(node.input) for name, node in nodes.items()}
    for name, node in nodes.items():
        return_to_float(node, graph, source)
        for index, (before, after) in enumerate(zip(reads[name], list(node.input), strict=True)):
            if before != after:
                node.input[index] = _either(switch_of(name), before, after, graph)
        graph.proto.input.append(helper.make_tensor_value_info(switch_of(name), TensorProto.BOOL, []))
    for layer in dynamic_layers(graph, source):
        _switch_dynamic(layer, graph, source)
    makers = {output: name for name, node in nodes.items() for output in node.output}
    for pair in graph.activation_pairs():
        _switch_pair(pair, makers, {name for name, read in reads.items() if pair.output[0] in read}, graph, source)
    drop_unread(result.graph)
    sort(result.graph)
    return result


def _switch_pair(
    pair: onnx.NodeProto,
    makers: dict[str, str],
    quantized: Collection[str],
    graph: QuantizedGraph,
    source: QuantizedGraph,
) -> None:
    """Let what reads a Q/DQ pair in float read past it where the layer that makes the tensor, or all that read it, are float."""
    tensor, behind = graph.made[pair.input[0]].input[0], pair.output[0]
    conditions = [switch_of(makers[tensor])] if tensor in makers else []
    if quantized:
        conditions.append(_joined("Or", [switch_of(name) for name in sorted(quantized)], graph))
    is_output = any(output.name == behind for output in graph.proto.output)
    readers = [
        node
        for node in graph.proto.node
        if behind in node.input and node.name not in quantized and not node.name.startswith(_EITHER)
    ]
    if not conditions or not (readers or is_output):
        return
    past = with_activation(tensor, graph, source)
    if is_output:
        pair.output[0] = f"{behind}_in_8_bits"
        for node in graph.proto.node:
            node.input[:] = [pair.output[0] if name == behind else name for name in node.input]
        graph.made[pair.output[0]] = pair
    chosen = _either(_joined("And", conditions, graph), pair.output[0], past, graph, output=behind if is_output else "")
    for node in readers:
        node.input[:] = [chosen if name == pair.output[0] else name for name in node.input]


def _switch_dynamic(layer: DynamicLayer, graph: QuantizedGraph, source: QuantizedGraph) -> None:
    """Compute a dynamic layer both ways and let the switch choose."""
    from onnx import TensorProto, helper

    given = dict(written(layer))
    in_8_bits, in_float = ({place: f"{name}_in_{how}" for place, name in given.items()} for how in ("8_bits", "float"))
    for place, name in in_8_bits.items():
        layer.result.output[place] = name
    outputs = [in_float.get(place, "") for place in range(len(layer.result.output))]
    add_in_float(layer, outputs, graph, source)
    graph.proto.input.append(helper.make_tensor_value_info(switch_of(layer.layer), TensorProto.BOOL, []))
    for place, name in given.items():
        _either(switch_of(layer.layer), in_8_bits[place], in_float[place], graph, output=name)


_EITHER = "either:"


def _either(condition: str, in_8_bits: str, in_float: str, graph: QuantizedGraph, output: str = "") -> str:
    from onnx import helper

    name = output or f"{_EITHER}{condition}:{in_8_bits}"
    if name not in graph.made or output:
        graph.add(helper.make_node("Where", [condition, in_8_bits, in_float], [name], name=f"{_EITHER}{name}"))
    return name


def _joined(operator: str, conditions: list[str], graph: QuantizedGraph) -> str:
    """All (And) or any (Or) of the conditions."""
    from onnx import helper

    first, *others = conditions
    for other in others:
        name = f"({first} {operator} {other})"
        if name not in graph.made:
            graph.add(helper.make_node(operator, [first, other], [name], name=name))
        first = name
    return first
