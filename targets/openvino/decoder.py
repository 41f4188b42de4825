"""A decoder that keeps its cache inside OpenVINO: states in the place of `past_` inputs and `present_` outputs.

The IR has the form of OpenVINO's own language models: a state for each cache, and the input `beam_idx` that says which row of
the last call each row goes on from. Attention is written as the operator that the CPU plugin fuses with its states
(ScaledDotProductAttentionWithKVCache): new keys and values are then written behind the old ones instead of into a copy of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from export.model import OnnxModel, TensorSpec
from targets.generation.cached_attention import PAST, PRESENT, CachedAttention, cached_attention, float_caches
from targets.generation.decoder import ROWS

BATCH, TOKENS = 0, 2
"""Axes of a cache, whose shape is (batch, heads, tokens, width)."""


def keep_cache_inside(network: Any, model: OnnxModel) -> None:
    """Change the network of a decoder into one with states.

    Its inputs are then those of the decoder without `past_`, and `beam_idx`, int32 (batch,); its one output is `logits`. A state
    that was reset holds no token.

    Args:
        model: what `network` was read from.
    """
    import openvino

    graph, ports = model.proto().graph, _ports(network)
    for attention in cached_attention(graph):
        _attend(attention, ports)
    parameters = {port.get_any_name(): port.get_node() for port in network.inputs}
    results = {name: port.get_node() for port in network.outputs for name in port.get_names()}
    rows = openvino.op.Parameter(openvino.Type.i32, openvino.PartialShape([-1]))
    rows.output(0).set_names({ROWS})
    network.add_parameters([rows])
    states, holding = _States(parameters["input_ids"], rows), float_caches(graph)
    for spec in model.inputs:
        if spec.name.startswith(PAST):
            present = spec.name.replace(PAST, PRESENT, 1)
            network.add_sinks([states.replace(parameters[spec.name], spec, ports[holding[present]])])
            network.remove_result(results[present])
            network.remove_parameter(parameters[spec.name])
    network.validate_nodes_and_infer_types()


def inputs_inside(inputs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """Of a decoder with states, from those of the decoder without."""
    return (*(spec for spec in inputs if not spec.name.startswith(PAST)), TensorSpec(ROWS, "int32", ("batch",)))


def growing_states(network: Any) -> tuple[str, ...]:
    """Names of the states that get longer from call to call, ours or another's: an axis besides the batch is open."""
    shapes = {variable.info.variable_id: variable.info.data_shape for variable in network.get_variables()}
    return tuple(
        sorted(
            name
            for name, shape in shapes.items()
            if shape.rank.is_dynamic or any(axis.is_dynamic for axis in tuple(shape)[BATCH + 1 :])
        )
    )


class _States:
    """The states of one network, which share a batch and a number of tokens."""

    def __init__(self, tokens: Any, rows: Any) -> None:
        from openvino import opset13 as operators

        self._operators, self._rows = operators, rows
        self._batch = self._extent(tokens, BATCH)
        self._tokens: Any = None

    def replace(self, parameter: Any, spec: TensorSpec, present: Any) -> Any:
        """Let what reads an input read a state, and store `present` there; the node that stores."""
        import openvino
        from openvino.op.util import Variable, VariableInfo

        operators, info = self._operators, VariableInfo()
        heads, width = spec.shape[1], spec.shape[3]
        info.variable_id = spec.name
        info.data_type, info.data_shape = openvino.Type.f32, openvino.PartialShape([-1, heads, -1, width])
        variable = Variable(info)
        empty = operators.broadcast(np.float32(0), self._shape(heads, self._number([0]), width))
        state = openvino.op.read_value(empty, variable)
        if self._tokens is None:
            self._tokens = self._extent(state, TOKENS)
        for reader in list(parameter.output(0).get_target_inputs()):
            # The fused operator wants each state read by the reordering alone, so shapes come from elsewhere.
            if reader.get_node().get_type_name() == "ShapeOf":
                _redirect(reader.get_node().output(0), self._shape(heads, self._tokens, width).output(0))
            else:
                reader.replace_source_output(operators.gather(state, self._rows, np.int64(BATCH)).output(0))
        return openvino.op.assign(present.get_node(), variable)

    def _shape(self, heads: Any, tokens: Any, width: Any) -> Any:
        return self._operators.concat([self._batch, self._number([heads]), tokens, self._number([width])], axis=0)

    def _extent(self, node: Any, axis: int) -> Any:
        return self._operators.gather(self._operators.shape_of(node), self._number([axis]), np.int64(0))

    def _number(self, values: list[int]) -> Any:
        return self._operators.constant(values, dtype=np.int64)


def _attend(attention: CachedAttention, ports: Mapping[str, Any]) -> None:
    """Put OpenVINO's one operator in the place of the two products and what is between."""
    from openvino import opset13

    names = (attention.query, attention.key, attention.value, attention.mask, attention.output)
    if all(name in ports for name in names):
        query, key, value, mask, output = (ports[name] for name in names)
        fused = opset13.scaled_dot_product_attention(query, key, value, mask, np.float32(attention.scale))
        _redirect(output, fused.output(0))


def _redirect(old: Any, new: Any) -> None:
    for reader in list(old.get_target_inputs()):
        reader.replace_source_output(new)


def _ports(network: Any) -> dict[str, Any]:
    """Tensor name -> the output of a node that it names; a Result repeats the name of what it gives."""
    nodes = (node for node in network.get_ordered_ops() if node.get_type_name() != "Result")
    return {name: port for node in nodes for port in node.outputs() for name in port.get_names()}
