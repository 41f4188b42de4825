"""A hand-made model that writes, small enough to work out by hand: what it says next depends on the sum of all it has read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compress.generation.assembly import Assembly
from export.model import OnnxModel
from targets.generation import Generation

WORDS, END, PADDING, START = 12, 4, 0, 2
LOUD = 5.0
TURNS = np.array([0.0, 0.7, 1.9, 1.1, 2.3, 0.5, 1.3, 2.9, 0.9, 1.7, 2.1, 0.37], np.float32)


def logits_after(history: list[int]) -> np.ndarray:
    """Of the next token, shape (WORDS,): LOUD sin(TURNS s), where s is the sum of the tokens read."""
    return LOUD * np.sin(TURNS.astype(np.float64) * sum(history))


def greedy(history: list[int], new_tokens: int) -> list[int]:
    """The likeliest token each time, padded behind the end token."""
    found: list[int] = []
    while len(found) < new_tokens and END not in found:
        found.append(int(logits_after([*history, *found]).argmax()))
    return found + [PADDING] * (new_tokens - len(found))


def decoder(path: Path, behind_encoder: bool = False) -> OnnxModel:
    """The cache holds the tokens read; an encoder's `cross_key.0` holds those of the source, which count as well."""
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["ids"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["ids", "two"], ["column"]),
        helper.make_node("CumSum", ["column", "one"], ["read"]),
        helper.make_node("ReduceSum", ["past_key.0", "both"], ["of_cache"], keepdims=0),
        helper.make_node("Unsqueeze", ["of_cache", "two"], ["before"]),
        helper.make_node("Add", ["read", "before"], ["sum"]),
        helper.make_node("Mul", ["all" if behind_encoder else "sum", "turns"], ["angle"]),
        helper.make_node("Sin", ["angle"], ["waves"]),
        helper.make_node("Mul", ["waves", "loud"], ["logits"]),
        helper.make_node("Unsqueeze", ["column", "one_axis"], ["row"]),
        helper.make_node("Concat", ["past_key.0", "row"], ["present_key.0"], axis=2),
    ]
    inputs = [_value("input_ids", TensorProto.INT64, ["batch", "answer"]), _cache("past_key.0", "past")]
    if behind_encoder:
        inputs += [_value("attention_mask", TensorProto.INT64, ["batch", "length"]), _cache("cross_key.0", "length")]
        # The mask is read as exported decoders do, and says nothing that the encoder has not seen to.
        nodes[6:6] = [
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "mask_axes"], ["tall"]),
            helper.make_node("Mul", ["cross_key.0", "tall"], ["masked"]),
            helper.make_node("ReduceSum", ["masked", "both"], ["of_source"], keepdims=0),
            helper.make_node("Unsqueeze", ["of_source", "two"], ["source"]),
            helper.make_node("Add", ["sum", "source"], ["all"]),
        ]
    constants = {
        "one": np.array(1),
        "two": np.array([2]),
        "both": np.array([2, 3]),
        "one_axis": np.array([1]),
        "mask_axes": np.array([1, 3]),
        "turns": TURNS,
        "loud": np.array(LOUD, np.float32),
    }
    outputs = [_value("logits", TensorProto.FLOAT, ["batch", "answer", WORDS]), _cache("present_key.0", "total")]
    return _saved(nodes, inputs, outputs, constants, path)


def encoder(path: Path) -> OnnxModel:
    """Gives the source's tokens, and 0 for padding."""
    nodes = [
        helper.make_node("Mul", ["input_ids", "attention_mask"], ["kept"]),
        helper.make_node("Cast", ["kept"], ["ids"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["ids", "axes"], ["cross_key.0"]),
    ]
    inputs = [_value(name, TensorProto.INT64, ["batch", "length"]) for name in ("input_ids", "attention_mask")]
    return _saved(nodes, inputs, [_cache("cross_key.0", "length")], {"axes": np.array([1, 3])}, path)


def assembly(folder: Path, encodes: bool = False, **generation: object) -> Assembly:
    """The parts, and how they write."""
    settings = {"end": END, "padding": PADDING, "start": START if encodes else None, "new_tokens": 6} | generation
    parts = {"decoder": decoder(folder / "decoder.onnx", encodes)}
    if encodes:
        parts["encoder"] = encoder(folder / "encoder.onnx")
    return Assembly(parts, Generation(**settings))  # type: ignore[arg-type]


def _value(name: str, kind: int, shape: list[object]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _cache(name: str, tokens: str) -> onnx.ValueInfoProto:
    return _value(name, TensorProto.FLOAT, ["batch", 1, tokens, 1])


def _saved(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: dict[str, np.ndarray],
    path: Path,
) -> OnnxModel:
    read = {name for node in nodes for name in node.input}
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items() if name in read]
    graph = helper.make_graph(nodes, "writer", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return OnnxModel.read(path)
