"""Recurrent layers stay whole: one LSTM or GRU node of ONNX a layer, at any length.

torch.export keeps `aten.lstm` and `aten.gru` as they are, but asks a decomposition for the shapes of their outputs, which
goes through the sequence step by step and so fixes its length. While `kept_whole` lasts the shapes are told instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch._decomp import global_decomposition_table

from export.errors import UnsupportedError

if TYPE_CHECKING:
    import onnx
    from torch.export import ExportedProgram

OPERATORS = ("LSTM", "GRU")
WEIGHTS = (1, 2, 3)
"""Places of the weights and the bias among the inputs of both operators."""
FIRST_STATES = (5, 6)

_KEY = torch._C.DispatchKey.CompositeImplicitAutograd


@contextmanager
def kept_whole() -> Iterator[None]:
    """Trace and convert nn.LSTM and nn.GRU without looking inside.

    What computes shapes finds a decomposition in two tables. torch.export replaces both for loops of its own
    (torch/export/_patches.py, torch 2.13).
    """
    told: dict[Any, Callable[..., Any]] = {torch.ops.aten.lstm.input: _lstm, torch.ops.aten.gru.input: _gru}
    tables: list[tuple[dict[Any, Callable[..., Any]], Any, Callable[..., Any]]] = []
    for operator, shapes in told.items():
        tables += [(operator.py_kernels, _KEY, shapes), (global_decomposition_table["post_autograd"], operator, shapes)]
    before = [table.get(key) for table, key, _ in tables]
    try:
        for table, key, shapes in tables:
            table[key] = shapes
        yield
    finally:
        for (table, key, _), kernel in zip(tables, before):
            if kernel is None:
                del table[key]
            else:
                table[key] = kernel


def refuse_unwritten(program: ExportedProgram, graph: onnx.GraphProto) -> None:
    """Refuse recurrent layers that the graph does not hold, or not as they are.

    Raises:
        UnsupportedError: if one is no node of the graph (its decomposition is of no use here), or has a projection.
    """
    packets = (torch.ops.aten.lstm, torch.ops.aten.gru)
    traced = [node for node in program.graph.nodes if getattr(node.target, "overloadpacket", None) in packets]
    for node in traced:
        _, _, parameters, has_biases, layers, _, _, both, _ = node.args
        if len(parameters) > layers * (2 if both else 1) * (4 if has_biases else 2):
            path = [path for path, _ in node.meta["nn_module_stack"].values()][-1].removeprefix("model.")
            raise UnsupportedError(
                f"export: the LSTM in module '{path}' has a projection (proj_size), which ONNX's has not; "
                "put a Linear behind an LSTM without one"
            )
    if traced and not any(node.op_type in OPERATORS for node in graph.node):
        raise UnsupportedError(
            f"export: this onnxscript does not write '{traced[0].target}' as one node; pip install --upgrade onnxscript"
        )


def simplify_recurrent(graph: onnx.GraphProto) -> None:
    """Take away what the exporter puts around a recurrent layer, and runtimes would do at every inference.

    The gates are in another order in ONNX: sliced and put together again here, not in the graph. A first state of zeros
    is what the operator begins with if it is given none. The output's shape is computed from its own size by ten
    nodes, where Reshape can be told to copy two axes.
    """
    from onnx import numpy_helper

    made = {name: node for node in graph.node for name in node.output}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    recurrent = [node for node in graph.node if node.op_type in OPERATORS]
    for node in recurrent:
        for place in WEIGHTS[: len(node.input) - 1]:
            _fold(node, place, made, constants, graph)
        for place in FIRST_STATES[: len(node.input) - FIRST_STATES[0]]:
            if _is_zero(node.input[place], made, constants):
                node.input[place] = ""
        while not node.input[-1]:
            del node.input[-1]
        turned = _only_reader(graph, node.output[0], "Transpose")
        joined = turned and _only_reader(graph, turned.output[0], "Reshape")
        if joined:
            joined.input[1] = f"{node.output[0]}_joined"
            graph.initializer.append(numpy_helper.from_array(np.array([0, 0, -1], np.int64), joined.input[1]))
    if recurrent:
        _drop_unread(graph)


def _lstm(
    x: Tensor,
    states: Sequence[Tensor],
    parameters: Sequence[Tensor],
    has_biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Tensors of the right shapes; `states` have the shape (layers times directions, batch, hidden)."""
    hidden, cell = (state.new_empty(state.shape) for state in states)
    return x.new_empty((*x.shape[:2], hidden.shape[2] * (2 if bidirectional else 1))), hidden, cell


def _gru(x: Tensor, state: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    output, hidden, _ = _lstm(x, (state, state), *rest)
    return output, hidden


def _fold(
    node: onnx.NodeProto,
    place: int,
    made: Mapping[str, onnx.NodeProto],
    constants: Mapping[str, np.ndarray],
    graph: onnx.GraphProto,
) -> None:
    """Make an input of a node a constant, named after the first parameter that it is put together from."""
    from onnx import numpy_helper

    name = node.input[place]
    if name in constants or (values := _value(name, made, constants)) is None:
        return
    first = name
    while first in made:
        first = made[first].input[0]
    node.input[place] = f"{first}_onnx"
    if node.input[place] not in {tensor.name for tensor in graph.initializer}:
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), node.input[place]))


def _value(name: str, made: Mapping[str, onnx.NodeProto], constants: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """What a tensor is worth if it follows from constants."""
    from onnx.reference import ReferenceEvaluator

    if name in constants or name not in made:
        return constants.get(name)
    values = [_value(each, made, constants) for each in made[name].input]
    if any(value is None for value in values):
        return None
    [result] = ReferenceEvaluator(made[name]).run(None, dict(zip(made[name].input, values)))
    return np.asarray(result)


def _is_zero(name: str, made: Mapping[str, onnx.NodeProto], constants: Mapping[str, np.ndarray]) -> bool:
    """Whether a tensor is known to hold nothing but zeros."""
    if name in constants:
        return not constants[name].any()
    node = made.get(name)
    return node is not None and node.op_type in ("Slice", "Expand") and _is_zero(node.input[0], made, constants)


def _only_reader(graph: onnx.GraphProto, name: str, operator: str) -> onnx.NodeProto | None:
    """The node that reads a tensor to give it another shape; others may only ask for its size."""
    readers = [node for node in graph.node if name in node.input and node.op_type != "Shape"]
    return readers[0] if len(readers) == 1 and readers[0].op_type == operator else None


def _drop_unread(graph: onnx.GraphProto) -> None:
    """Remove the nodes and constants that no output depends on any more."""
    wanted = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            kept.append(node)
            wanted.update(_read(node))
    del graph.node[:]
    graph.node.extend(reversed(kept))
    constants = [tensor for tensor in graph.initializer if tensor.name in wanted]
    del graph.initializer[:]
    graph.initializer.extend(constants)


def _read(node: onnx.NodeProto) -> Iterator[str]:
    """The tensors that a node reads, those that its branches read too."""
    yield from node.input
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            for inner in graph.node:
                yield from _read(inner)
            yield from (value.name for value in graph.output)
