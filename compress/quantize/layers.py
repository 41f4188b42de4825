"""The weighted layers of a Q/DQ model: reading and writing their integers, scales and biases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.quantize.activations import read_by

if TYPE_CHECKING:
    import onnx

INTEGER_RANGE = {"int8": (-128, 127), "uint8": (0, 255), "int4": (-8, 7), "uint4": (0, 15)}


@dataclass(frozen=True)
class Layer:
    """A Conv, Gemm or MatMul whose weight comes from integers through a DequantizeLinear.

    Args:
        node: its name, the same in the float model that was quantized.
        source: the tensor that it reads, dequantized; `output` the one it writes.
        axis: of the weight's output channels.
        biased: the node whose input `bias` names the constant bias: this one, or the Add behind a MatMul; "" without one.
        attributes: of the node.
    """

    node: str
    operator: str
    source: str
    output: str
    weight: str
    scale: str
    zero_point: str
    axis: int
    bias: str
    attributes: dict[str, Any]

    def rows(self, weight: np.ndarray) -> np.ndarray:
        """The weight as (output channels, inputs of one)."""
        return np.moveaxis(weight, self.axis, 0).reshape(weight.shape[self.axis], -1)

    def from_rows(self, rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        moved = (shape[self.axis], *(extent for axis, extent in enumerate(shape) if axis != self.axis))
        return np.ascontiguousarray(np.moveaxis(rows.reshape(moved), 0, self.axis))


class QdqModel:
    """A Q/DQ ONNX model that is changed in place: `proto` is always whole."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.proto = proto
        self.tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
        _give_each_its_own_bias(self)
        self.made_by = {name: node for node in proto.graph.node for name in node.output}
        self.layers = tuple(self._layers())

    def array(self, name: str) -> np.ndarray:
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_array(self.tensors[name]))

    def put(self, name: str, values: np.ndarray) -> None:
        """Replace a constant, or add it."""
        from onnx import numpy_helper

        if name not in self.tensors:
            self.tensors[name] = self.proto.graph.initializer.add()
        self.tensors[name].CopyFrom(numpy_helper.from_array(values, name))

    def integers(self, layer: Layer) -> np.ndarray:
        """(output channels, inputs), int32, without the zero point."""
        return layer.rows(self.array(layer.weight)).astype(np.int32) - self._zero(layer)

    def scales(self, layer: Layer) -> np.ndarray:
        """One for each output channel, float64."""
        scale = self.array(layer.scale).astype(np.float64).reshape(-1)
        return np.broadcast_to(scale, (self.array(layer.weight).shape[layer.axis],))

    def values(self, layer: Layer) -> np.ndarray:
        """What the layer multiplies with: (output channels, inputs), float64."""
        return np.asarray(self.integers(layer) * self.scales(layer)[:, None])

    def set_integers(self, layer: Layer, integers: np.ndarray) -> None:
        before = self.array(layer.weight)
        rows = (integers + self._zero(layer)).astype(before.dtype)
        self.put(layer.weight, layer.from_rows(rows, before.shape))

    def set_scales(self, layer: Layer, scales: np.ndarray) -> None:
        """One for each output channel; a quantized bias keeps its value."""
        bias = self.bias(layer)
        before = self.array(layer.scale)
        self.put(layer.scale, scales.reshape(before.shape).astype(before.dtype))
        if bias is not None:
            self.set_bias(layer, bias)

    def bias(self, layer: Layer) -> np.ndarray | None:
        """In float64; None where the layer has none."""
        if not layer.bias:
            return None
        if layer.bias in self.tensors:
            return self.array(layer.bias).astype(np.float64)
        made = self.made_by[layer.bias]
        return np.asarray(self.array(made.input[0]).astype(np.float64) * self.array(made.input[1]))

    def set_bias(self, layer: Layer, values: np.ndarray) -> None:
        """In the layer's own form: float, or INT32 whose scale is that of the input times that of the weight."""
        if layer.bias in self.tensors:
            self.put(layer.bias, values.astype(np.float32))
            return
        made = self.made_by[layer.bias]
        scale = self.array(self.made_by[layer.source].input[1]).astype(np.float64) * self.array(layer.scale).reshape(-1)
        self.put(made.input[1], np.broadcast_to(scale, self.array(made.input[1]).shape).astype(np.float32))
        limit = 2**31 - 1
        self.put(made.input[0], np.clip(np.round(values / scale), -limit, limit).astype(np.int32))

    def _zero(self, layer: Layer) -> np.ndarray | int:
        if not layer.zero_point:
            return 0
        zero = self.array(layer.zero_point).astype(np.int32).reshape(-1)
        return zero[:, None]

    def _layers(self) -> Iterator[Layer]:
        uses = Counter(name for node in self.proto.graph.node for name in read_by(node))
        readers = {name: node for node in self.proto.graph.node for name in node.input}
        for node in self.proto.graph.node:
            if node.op_type not in ("Conv", "Gemm", "MatMul"):
                continue
            dequantize = self.made_by.get(node.input[1])
            if (
                dequantize is None
                or dequantize.op_type != "DequantizeLinear"
                or dequantize.input[0] not in self.tensors
            ):
                continue
            rank = len(self.tensors[dequantize.input[0]].dims)
            scaled = any(attribute.name in ("alpha", "beta") and attribute.f != 1.0 for attribute in node.attribute)
            if scaled or (node.op_type == "MatMul" and rank != 2):
                continue
            if uses[dequantize.input[0]] > 1 or uses[dequantize.output[0]] > 1:
                continue  # shared weights stay as they are: what suits one layer need not suit the other
            yield self._layer(node, dequantize, uses, readers)

    def _layer(
        self, node: onnx.NodeProto, dequantize: onnx.NodeProto, uses: Counter[str], readers: dict[str, onnx.NodeProto]
    ) -> Layer:
        import onnx

        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        out_first = node.op_type == "Conv" or (node.op_type == "Gemm" and attributes.get("transB", 0))
        bias = node.input[2] if len(node.input) > 2 else ""
        output = node.output[0]
        if node.op_type == "MatMul" and uses[output] == 1 and (after := readers[output]).op_type == "Add":
            other = next((name for name in after.input if name != output), "")
            if other in self.tensors and uses[other] == 1 and len(self.tensors[other].dims) == 1:
                bias, output = other, after.output[0]
        return Layer(
            node=node.name,
            operator=node.op_type,
            source=node.input[0],
            output=output,
            weight=dequantize.input[0],
            scale=dequantize.input[1],
            zero_point=dequantize.input[2] if len(dequantize.input) > 2 else "",
            axis=0 if out_first else len(self.tensors[dequantize.input[0]].dims) - 1,
            bias=bias if bias in self.tensors or bias in self.made_by else "",
            attributes=attributes,
        )


def _give_each_its_own_bias(model: QdqModel) -> None:
    """Copy a bias for each node that shares it: exporters store equal biases once, and they are not to stay equal."""
    import onnx

    graph = model.proto.graph
    made_by = {name: node for node in graph.node for name in node.output}
    seen = set[str]()
    for place, node in reversed(list(enumerate(graph.node))):
        if node.op_type not in ("Conv", "Gemm") or len(node.input) < 3:
            continue
        bias = node.input[2]
        if bias not in seen:
            seen.add(bias)
        elif bias in model.tensors:
            node.input[2] = f"{bias}_of_{node.name}"
            model.put(node.input[2], model.array(bias))
        elif bias in made_by and all(name in model.tensors for name in made_by[bias].input):
            own = onnx.NodeProto()
            own.CopyFrom(made_by[bias])
            own.name, own.output[0] = f"{own.name}_of_{node.name}", f"{bias}_of_{node.name}"
            for position, name in enumerate(own.input):
                own.input[position] = f"{name}_of_{node.name}"
                model.put(own.input[position], model.array(name))
            node.input[2] = own.output[0]
            graph.node.insert(place, own)
