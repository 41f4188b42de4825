"""A Q/DQ graph as a torch module: the very graph that the target compiles, with weights that can be trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from compress.qat.fake_quantize import Grid, fake_quantize, integers_on_grid
from compress.qat.operators import operator_of
from compress.qat.trained import integers_of, put_back, trained_tensors
from export.errors import UnsupportedError

if TYPE_CHECKING:
    import onnx


class QuantizedNetwork(nn.Module):
    """Computes what the Q/DQ graph computes; weights and biases are float parameters that are quantized on the way.

    A QuantizeLinear gives the fake-quantized tensor, its DequantizeLinear passes that on.

    Args:
        quantized: the graph, with static scales.
        floats: the float model it was made of: weights start from its values, see `trained_tensors`.

    Raises:
        UnsupportedError: if an operator has no entry in `OPERATORS`, or quantization is dynamic.
    """

    def __init__(self, quantized: onnx.ModelProto, floats: onnx.ModelProto) -> None:
        super().__init__()
        self.proto = quantized
        graph = quantized.graph
        self.trained = trained_tensors(graph, floats.graph)
        self.parameters_of_graph = nn.ParameterList(torch.from_numpy(each.start.copy()) for each in self.trained)
        self._parameter_at = {each.constant: position for position, each in enumerate(self.trained)}
        self._buffer_of = dict[str, str]()
        self._arrays = {tensor.name: tensor for tensor in graph.initializer}
        self.no_zero_point: Tensor
        self.register_buffer("no_zero_point", torch.zeros(()), persistent=False)
        self._inputs = [value.name for value in graph.input if value.name not in self._arrays]
        self._outputs = [value.name for value in graph.output]
        nodes = _in_order(graph.node)
        made_by = {name: node for node in nodes for name in node.output}
        steps = [self._step(node, made_by) for node in nodes]
        self._steps = _with_last_uses([step for step in steps if step is not None], self._outputs)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Inputs in the order of the graph's, outputs in theirs."""
        values: dict[str, Tensor | None] = dict(zip(self._inputs, inputs, strict=True))
        for step in self._steps:
            given = [values[name] if name in values else self._constant(name) for name in step.inputs]
            made = step.function(*given)
            values.update(zip(step.outputs, (made,) if isinstance(made, Tensor) else made, strict=False))
            for name in step.last_uses:
                values.pop(name, None)
        return tuple(values[name] for name in self._outputs)  # type: ignore[misc]

    @torch.no_grad()
    def to_onnx(self) -> onnx.ModelProto:
        """The graph with the weights and biases as they are now: same nodes, same names, same types, same scales."""
        stored: dict[str, np.ndarray] = {}
        for each, parameter in zip(self.trained, self.parameters_of_graph, strict=True):
            value = parameter.cpu()
            if each.grid is not None:
                scale = each.grid.spread(self._kept(each.scale).cpu(), value.shape)
                value = integers_on_grid(
                    value, scale, each.grid.spread(self._zero(each.zero_point).cpu(), value.shape), each.grid
                )
            stored[each.constant] = value.numpy()
        trained = type(self.proto)()
        trained.CopyFrom(self.proto)
        put_back(trained.graph, stored)
        return trained

    def _step(self, node: onnx.NodeProto, made_by: Mapping[str, onnx.NodeProto]) -> _Step | None:
        """How a node is computed; None if its output is known already."""
        if node.op_type == "Constant":
            self._keep(node.output[0], _constant_of(node))
            return None
        if node.op_type == "DequantizeLinear":
            return self._dequantize(node, made_by)
        if node.op_type == "QuantizeLinear":
            return self._quantize(node)
        for name in node.input:
            self._keep_initializer(name)
        return _Step(operator_of(node), tuple(node.input), tuple(node.output))

    def _quantize(self, node: onnx.NodeProto) -> _Step:
        from onnx import helper

        x, scale, zero_point = (*node.input, "")[:3]
        if scale not in self._arrays:
            raise UnsupportedError(
                f"qat: the scale of QuantizeLinear '{node.name}' is taken at run time; only static schemes are trained"
            )
        data_type = self._arrays[zero_point].data_type if zero_point else 2
        bounds = integers_of(data_type)
        if bounds is None:
            kind = helper.tensor_dtype_to_string(data_type)
            raise UnsupportedError(f"qat: QuantizeLinear '{node.name}' makes {kind}; only integers of up to 32 bits")
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        grid = Grid(*bounds, attributes.get("axis", 1), attributes.get("block_size", 0))
        self._keep_initializer(x)
        self._keep_initializer(scale)
        self._keep_zero_point(zero_point)

        def function(tensor: Tensor) -> Tensor:
            return fake_quantize(tensor, self._kept(scale), self._zero(zero_point), grid)

        return _Step(function, (x,), tuple(node.output))

    def _dequantize(self, node: onnx.NodeProto, made_by: Mapping[str, onnx.NodeProto]) -> _Step | None:
        source, scale, zero_point = (*node.input, "")[:3]
        if source in self._parameter_at:
            position = self._parameter_at[source]
            self._keep_initializer(scale)
            self._keep_zero_point(zero_point)
            return _Step(lambda: self._weight(position), (), tuple(node.output))
        if source in self._arrays:
            self._keep(node.output[0], _dequantized(node, self._arrays))
            return None
        maker = made_by.get(source)
        if maker is None or maker.op_type != "QuantizeLinear" or not self._same_scale(maker, node):
            raise UnsupportedError(
                f"qat: DequantizeLinear '{node.name}' takes '{source}', which no QuantizeLinear of the same scale makes; "
                "only pairs of the two are trained through"
            )
        return _Step(lambda tensor: tensor, (source,), tuple(node.output))

    def _same_scale(self, quantize: onnx.NodeProto, dequantize: onnx.NodeProto) -> bool:
        from onnx import numpy_helper

        return len(quantize.input) == len(dequantize.input) and all(
            one == other
            or np.array_equal(numpy_helper.to_array(self._arrays[one]), numpy_helper.to_array(self._arrays[other]))
            for one, other in zip(quantize.input[1:], dequantize.input[1:], strict=True)
        )

    def _weight(self, position: int) -> Tensor:
        each = self.trained[position]
        assert each.grid is not None
        return fake_quantize(self._parameter(position), self._kept(each.scale), self._zero(each.zero_point), each.grid)

    def _constant(self, name: str) -> Tensor | None:
        """A weight or constant that a node takes as it is; None for an input left out."""
        if not name:
            return None
        return self._parameter(self._parameter_at[name]) if name in self._parameter_at else self._kept(name)

    def _parameter(self, position: int) -> Tensor:
        parameter: Tensor = self.parameters_of_graph[position]
        return parameter

    def _kept(self, name: str) -> Tensor:
        return self.get_buffer(self._buffer_of[name])

    def _zero(self, name: str) -> Tensor:
        """A zero point as float; left out, it is 0."""
        return self._kept(name) if name else self.no_zero_point

    def _keep_initializer(self, name: str) -> None:
        from onnx import numpy_helper

        if name in self._arrays and name not in self._buffer_of and name not in self._parameter_at:
            self._keep(name, numpy_helper.to_array(self._arrays[name]))

    def _keep_zero_point(self, name: str) -> None:
        from onnx import numpy_helper

        if name and name not in self._buffer_of:
            self._keep(name, numpy_helper.to_array(self._arrays[name]).astype(np.float32))

    def _keep(self, name: str, value: np.ndarray) -> None:
        buffer = f"constant_{len(self._buffer_of)}"
        self.register_buffer(buffer, torch.from_numpy(np.array(value)), persistent=False)
        self._buffer_of[name] = buffer


@dataclass(frozen=True)
class _Step:
    """A node: what it computes from which values; `last_uses` are needed by no later step."""

    function: Callable[..., Tensor | Sequence[Tensor]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    last_uses: tuple[str, ...] = ()


def _in_order(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Producers before consumers: ONNX Runtime's quantizer leaves its Q/DQ nodes at the end."""
    maker = {name: position for position, node in enumerate(nodes) for name in node.output}
    needs = {position: {maker[name] for name in node.input if name in maker} for position, node in enumerate(nodes)}
    return [nodes[position] for position in TopologicalSorter(needs).static_order()]


def _with_last_uses(steps: Sequence[_Step], outputs: Sequence[str]) -> tuple[_Step, ...]:
    seen, marked = set(outputs), list[_Step]()
    for step in reversed(steps):
        last = tuple({name for name in (*step.inputs, *step.outputs) if name not in seen})
        seen.update(last)
        marked.append(_Step(step.function, step.inputs, step.outputs, last))
    return tuple(reversed(marked))


def _constant_of(node: onnx.NodeProto) -> np.ndarray:
    from onnx import helper, numpy_helper

    [attribute] = node.attribute
    value = helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return np.asarray(numpy_helper.to_array(value))
    if attribute.name not in ("value_float", "value_floats", "value_int", "value_ints"):
        raise UnsupportedError(f"qat: Constant '{node.name}' holds {attribute.name}; only numbers are supported")
    return np.array(value, np.float32 if "float" in attribute.name else np.int64)


def _dequantized(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> np.ndarray:
    """A constant that is not trained, as floats."""
    from onnx import helper, numpy_helper

    source, scale, zero_point = (*node.input, "")[:3]
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    grid = Grid(0, 0, attributes.get("axis", 1), attributes.get("block_size", 0))
    integers = torch.from_numpy(numpy_helper.to_array(constants[source]).astype(np.int32))
    steps = integers
    if zero_point:
        zero = torch.from_numpy(numpy_helper.to_array(constants[zero_point]).astype(np.int32))
        steps = integers - grid.spread(zero, integers.shape)
    scales = torch.from_numpy(np.array(numpy_helper.to_array(constants[scale])))
    return np.asarray((steps.float() * grid.spread(scales, integers.shape)).numpy())
