"""What a phone's accelerators could take of a model: NNAPI and CoreML by ONNX Runtime's own checker, and XNNPACK."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

_VERDICTS = {"YES": "yes", "MAYBE": "maybe", "NO": "no"}
_XNNPACK = frozenset(
    {
        *("AveragePool", "Conv", "ConvTranspose", "Gemm", "MatMul", "MaxPool", "QLinearConv", "Resize", "Softmax"),
        *("QLinearAveragePool", "QLinearConvTranspose", "QLinearSoftmax"),
    }
)
"""https://onnxruntime.ai/docs/execution-providers/Xnnpack-ExecutionProvider.html, "Supported ops"."""
_JOINED = frozenset({"Clip", "Relu", "QuantizeLinear", "DequantizeLinear"})
"""Run as part of an operator beside them (the provider's node_support_checker.cc)."""
_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "QLinearConv", "QLinearConvTranspose"})


def usability(model: Path) -> list[dict[str, Any]]:
    """A line for each provider, plain JSON: would it take the model as it is, would it with fixed shapes, and why.

    Partitions are runs of nodes that the provider takes; between two of them the CPU works and data is handed over. They are
    counted for fixed shapes, by operator alone: what else an operator must keep to on the device is not checked.

    Args:
        model: the ONNX model, before ONNX Runtime's kernels are fused into it.
    """
    from onnxruntime.tools.mobile_helpers import usability_checker as checker
    from onnxruntime.tools.onnx_model_utils import ModelProtoWithShapeInfo, optimize_model

    with tempfile.TemporaryDirectory(prefix="compress-") as scratch:
        basic = Path(scratch) / "basic.onnx"
        optimize_model(model, basic, use_external_initializers=True)
        proto = ModelProtoWithShapeInfo(basic).model_with_shape_info
    if not proto.graph.value_info:  # nodes side by side, nothing between two: the checker takes that for missing shapes
        proto.graph.value_info.append(proto.graph.output[0])
    providers: list[tuple[str, Callable[[onnx.ModelProto, bool], Any]]] = [("NNAPI", checker.check_nnapi_partitions)]
    for kind, table in (("ML Program", "mlprogram"), ("neural network", "neuralnetwork")):
        config = f"coreml_supported_{table}_ops.md"
        providers.append((f"CoreML, {kind}", _with(checker.check_coreml_partitions, config)))
    dynamic = bool(checker.check_shapes(proto.graph)[0])
    lines = [_line(name, check(proto, True), check(proto, False), dynamic) for name, check in providers]
    return [*lines, _xnnpack(proto.graph, checker.check_partitioning(proto.graph, _XnnpackOperators(), False))]


def _line(provider: str, as_is: Any, fixed: Any, dynamic: bool) -> dict[str, Any]:
    """Of a provider that ONNX Runtime's checker knows.

    Args:
        as_is, fixed: its PartitioningInfo, without and with the nodes that fixed shapes would bring.
    """
    now, then = (_VERDICTS[found.suitability().name] for found in (as_is, fixed))
    return {
        "provider": provider,
        "as_it_is": now,
        "with_fixed_shapes": then,
        "partitions": fixed.num_partitions,
        "nodes_taken": fixed.num_supported_nodes,
        "nodes": fixed.num_nodes,
        "why": "; ".join(_reasons(provider.partition(",")[0], as_is, fixed, dynamic)),
    }


def _reasons(provider: str, as_is: Any, fixed: Any, dynamic: bool) -> Iterator[str]:
    if dynamic and as_is.num_supported_nodes < fixed.num_supported_nodes:
        yield f"takes fixed shapes only, {as_is.nodes_unsupported_due_to_dynamic_input} nodes have others"
    if fixed.unsupported_ops:
        names = ", ".join(sorted(name.partition(":")[2] for name in fixed.unsupported_ops))
        yield f"does not have {names} ({fixed.nodes_unsupported_due_to_op} nodes)"
    if fixed.num_unsupported_nodes_due_to_rank:
        yield f"{fixed.num_unsupported_nodes_due_to_rank} nodes have more axes than it takes"
    if fixed.num_partitions > 1:
        yield f"the model falls into {fixed.num_partitions} parts, and each change between {provider} and the CPU costs a copy"
    if fixed.num_partitions == 1 and fixed.num_supported_nodes == fixed.num_nodes:
        yield "with fixed shapes it takes every node in one part" if dynamic else "it takes every node in one part"


def _xnnpack(graph: onnx.GraphProto, found: Any) -> dict[str, Any]:
    """XNNPACK runs on the CPU itself, so that parts cost no copies: what counts is whether it takes the products."""
    products = [node for node in graph.node if node.op_type in _PRODUCTS]
    taken = [node for node in products if node.op_type in _XNNPACK and _is_2d(node, graph)]
    verdict = "yes" if products and len(taken) == len(products) else "maybe" if 2 * len(taken) > len(products) else "no"
    return {
        "provider": "XNNPACK",
        "as_it_is": verdict,
        "with_fixed_shapes": verdict,
        "partitions": found.num_partitions,
        "nodes_taken": found.num_supported_nodes,
        "nodes": found.num_nodes,
        "why": f"takes {len(taken)} of {len(products)} convolutions and matrix products, by its documented operators; ONNX Runtime's "
        "checker does not know it. It runs on the CPU: whether it beats ONNX Runtime's own kernels shows on the device alone",
    }


def _is_2d(node: onnx.NodeProto, graph: onnx.GraphProto) -> bool:
    """Whether no factor of a matrix product is known to have other than two axes; convolutions are taken as they come."""
    if node.op_type not in ("Gemm", "MatMul"):
        return True
    values = (*graph.value_info, *graph.input, *graph.output)
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in values}
    return all(ranks.get(name, 2) == 2 for name in node.input[:2])


@dataclass(frozen=True)
class _XnnpackOperators:
    """What `check_partitioning` asks of a table of operators."""

    def is_op_supported(self, node: onnx.NodeProto) -> bool:
        return node.op_type in _XNNPACK or node.op_type in _JOINED


def _with(check: Callable[..., Any], config: str) -> Callable[[onnx.ModelProto, bool], Any]:
    return lambda model, fixed_only: check(model, fixed_only, config)
