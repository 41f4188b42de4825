"""Small linear layers in FP32 where a CPU has no VNNI: OpenVINO's INT8 product takes longer there than the layer is worth.

It goes through a general matrix product (oneDNN's jit_gemm). On Zen 3 layers of up to 256 x 256 take 2 to 10 us more of a call
on one image than in FP32, and 8 to 78 us on 32, one of 1024 x 1000 129 us less (`python -m benchmarks.studies.small_products`).
A classifier behind convolutions is such a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

LARGEST = 65_536
"""Weights of a layer that is small."""
SHARE = 0.05
"""Of the bytes of a network's constants that its small layers may take in FP32: it is to stay as small as INT8 makes it."""

_COMPUTED: Mapping[str, Callable[..., np.ndarray]] = {
    "Convert": lambda held: held.astype(np.float32),
    "Subtract": np.subtract,
    "Multiply": np.multiply,
    "Reshape": np.reshape,
    "Transpose": np.transpose,
}
"""What stands between weights in 8 bits and their product."""


def multiply_in_float(network: Any, largest: int = LARGEST, share: float = SHARE) -> int:
    """Change the network in place: small products of vectors and weights in 8 bits read what was rounded for them unrounded.

    Args:
        largest: weights of a layer at most.
        share: of the bytes of all constants, that the layers' weights take at most.

    Returns:
        How many products there were; none is changed where their weights would make the network larger.
    """
    from openvino import opset13 as operators

    found = [(node, *both) for node in network.get_ordered_ops() if (both := _small(node, largest)) is not None]
    held = sum(node.get_byte_size() for node in network.get_ordered_ops() if node.get_type_name() == "Constant")
    if sum(weights.nbytes for _, _, weights in found) > share * held:
        return 0
    for product, source, weights in found:
        product.input(0).replace_source_output(source)
        product.input(1).replace_source_output(operators.constant(weights).output(0))
    network.validate_nodes_and_infer_types()
    return len(found)


def _small(node: Any, largest: int) -> tuple[Any, np.ndarray] | None:
    """What a small product of 8 bits read before it was rounded, and its weights as floats; None for all other nodes."""
    if node.get_type_name() != "MatMul":
        return None
    shapes = [node.get_input_partial_shape(side) for side in (0, 1)]
    if any(shape.rank.is_dynamic or len(shape) != 2 for shape in shapes):
        return None
    source, weights = _before_rounding(node.input_value(0)), _value(node.input_value(1))
    return None if source is None or weights is None or weights.size > largest else (source, weights)


def _before_rounding(output: Any) -> Any | None:
    """Of data that is quantized and dequantized: what goes into it."""
    node, rounded = output.get_node(), False
    while node.get_type_name() in ("Multiply", "Subtract", "Convert"):
        node, rounded = node.input_value(0).get_node(), True
    return node.input_value(0) if rounded and node.get_type_name() == "FakeQuantize" else None


def _value(output: Any) -> np.ndarray | None:
    """What comes out of constants alone, weights dequantized; None if it is anything else."""
    node = output.get_node()
    kind = node.get_type_name()
    if kind == "Constant":
        return np.asarray(node.data)
    if kind not in _COMPUTED:
        return None
    known = [value for each in node.input_values() if (value := _value(each)) is not None]
    return _COMPUTED[kind](*known) if len(known) == node.get_input_size() else None
