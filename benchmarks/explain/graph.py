"""Which operators the model that was compiled has quantized: read from the Q/DQ ONNX file or the OpenVINO IR."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from targets import Engine

_LAYOUT = frozenset({"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Slice", "StridedSlice"})
_DEQUANTIZING = frozenset({"Convert", "Subtract", "Multiply"})
"""How an IR spells DequantizeLinear."""
_INTEGER = frozenset({"i8", "u8", "i4", "u4"})
_PRODUCTS = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm", "Convolution", "GroupConvolution"})


@dataclass(frozen=True)
class Quantized:
    """Of one operator of the model: whether each of its tensors comes out of a quantization, and its result goes into one.

    `inputs` leaves constants that are no weights of a product, biases and shapes out. OpenVINO needs no quantized result.
    """

    operator: str
    inputs: tuple[bool, ...]
    output: bool


@dataclass(frozen=True)
class _Node:
    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


Quantization = Mapping[str, Quantized]
"""By the operator's name in the model, and by the names of the tensors it makes."""


def quantization_of(engine: Engine) -> Quantization:
    """Empty where the artifact's folder holds neither an IR nor the model.onnx it was compiled from."""
    source = engine.path.with_name("model.onnx")
    if engine.path.suffix == ".xml":
        return _of_ir(engine.path)
    return _of_onnx(source) if source.is_file() else {}


def find(name: str, quantization: Quantization) -> Quantized | None:
    """The operator behind a name of the runtime, which adds its own endings: node_Conv_1/WithoutBiases, relu_1_nchwc."""
    plain = name.split("/")[0]
    for candidate in (name, plain, re.sub(r"(_nchwc|_token_\d+|_quant)+$", "", plain)):
        if candidate in quantization:
            return quantization[candidate]
    return None


def _of_onnx(path: Path) -> Quantization:
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    nodes = [_Node(node.name, node.op_type, tuple(filter(None, node.input)), tuple(node.output)) for node in graph.node]
    constants = {tensor.name for tensor in graph.initializer}
    return _quantization(nodes, constants, _ends_in_dequantize)


def _of_ir(path: Path) -> Quantization:
    """Nodes of an IR; a tensor's name is its layer's id and port."""
    network = ElementTree.parse(path).getroot()
    edges = {
        (edge.attrib["to-layer"], edge.attrib["to-port"]): f"{edge.attrib['from-layer']}:{edge.attrib['from-port']}"
        for edge in network.iter("edge")
    }
    nodes: list[_Node] = []
    constants: set[str] = set()
    for layer in network.iter("layer"):
        identity = layer.attrib["id"]
        taken = [edges.get((identity, port.attrib["id"])) for port in layer.findall("input/port")]
        made = tuple(f"{identity}:{port.attrib['id']}" for port in layer.findall("output/port"))
        operator = layer.attrib["type"]
        if operator == "Const":
            details = layer.find("data")
            stored = details is not None and details.attrib.get("element_type") in _INTEGER
            operator = "IntegerConst" if stored else "Const"
            constants.update(made)
        nodes.append(_Node(layer.attrib["name"], operator, tuple(filter(None, taken)), made))
    return _quantization(nodes, constants, _ends_in_fake_quantize)


Walk = Callable[[str, Mapping[str, _Node]], bool]


def _quantization(nodes: Iterable[_Node], constants: set[str], quantized: Walk) -> Quantization:
    listed = list(nodes)
    makers = {name: node for node in listed for name in node.outputs}
    takers: dict[str, list[_Node]] = {}
    for node in listed:
        for name in node.inputs:
            takers.setdefault(name, []).append(node)
    found: dict[str, Quantized] = {}
    for node in listed:
        product = node.operator in _PRODUCTS
        counted = node.inputs[:2] if product else [name for name in node.inputs if name not in constants]
        into = [taker.operator for name in node.outputs for taker in takers.get(name, ())]
        goes_on = quantized is _ends_in_fake_quantize or "QuantizeLinear" in into
        entry = Quantized(node.operator, tuple(quantized(name, makers) for name in counted), goes_on)
        found[node.name] = entry
        if product:
            found.update(dict.fromkeys(_reaches(node, takers), entry))
    return found


def _reaches(node: _Node, takers: Mapping[str, list[_Node]]) -> Iterable[str]:
    """The tensors that fused followers of a product make: a runtime names the fused operator after the last."""
    for _ in range(4):
        yield from node.outputs
        following = [taker for name in node.outputs for taker in takers.get(name, ())]
        if len(following) != 1 or following[0].operator in _PRODUCTS:
            return
        node = following[0]


def _ends_in_dequantize(name: str, makers: Mapping[str, _Node]) -> bool:
    node = makers.get(name)
    while node is not None and node.operator in _LAYOUT:
        node = makers.get(node.inputs[0])
    return node is not None and node.operator == "DequantizeLinear"


def _ends_in_fake_quantize(name: str, makers: Mapping[str, _Node]) -> bool:
    node = makers.get(name)
    while node is not None and node.operator in _LAYOUT | _DEQUANTIZING and node.inputs:
        node = makers.get(node.inputs[0])
    return node is not None and node.operator in ("FakeQuantize", "IntegerConst")
