"""INT8 max pools over whole vector registers: channels that do not fill one are topped up with zeros for the pool alone.

Of 8-bit data OpenVINO's max pool on AVX2 takes 32 channels at a time. What is left over is stored by vmaskmovdqu, around the
caches (oneDNN, src/cpu/x64/jit_uni_i8i8_pooling.cpp); on AVX-512 a masked vmovdqu8 does it. A 3x3 pool of stride 1 over 16x16
pixels takes 151 us with 56 channels and 17 us with 64 (Zen 3, 2026.4, OpenVINO's counters), more than the convolutions around it,
and pruning leaves such widths behind. Topped up, with the copies that this costs, it is 25 us; of a whole small network
`python -m benchmarks.studies.max_pools` tells. At most 32 channels are fast in any number, and so are average pools and FP32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

REGISTER = 32
"""Bytes of an AVX2 register."""


def fill_registers(network: Any) -> int:
    """Change the network in place; of unsigned data its answers stay the same to the last bit, of signed to a rounding of FP32.

    Left alone are pools of data whose zero point is not 0: OpenVINO would go on in FP32 behind them, or refuse the network. So
    are those whose answer or whose places of the largest values leave the network.

    Returns:
        How many pools were given channels.
    """
    pools = [
        node
        for node in network.get_ordered_ops()
        if node.get_type_name() == "MaxPool" and _short(node) and _inside(node) and _from_zero(node.input_value(0))
    ]
    for pool in pools:
        _fill(pool)
    network.validate_nodes_and_infer_types()
    return len(pools)


def _short(pool: Any) -> bool:
    shape = pool.get_input_partial_shape(0)
    if shape.rank.is_dynamic or shape[1].is_dynamic:
        return False
    channels = shape[1].get_length()
    return bool(channels > REGISTER and channels % REGISTER)


def _inside(pool: Any) -> bool:
    readers = [reader.get_node().get_type_name() for reader in pool.output(0).get_target_inputs()]
    others = [reader for output in pool.outputs()[1:] for reader in output.get_target_inputs()]
    return "Result" not in readers and not others


def _from_zero(output: Any) -> bool:
    """Whether this is 8-bit data with a zero point of 0 in the form that quantized ONNX comes in."""
    node = output.get_node()
    kind = node.get_type_name()
    if kind == "Concat":
        return all(_from_zero(each) for each in node.input_values())
    if kind == "MaxPool":
        return _from_zero(node.input_value(0))
    if kind != "Multiply":
        return False
    shifted = node.input_value(0).get_node()
    if shifted.get_type_name() == "Subtract":
        zero_point = _constant(shifted.input_value(1).get_node())
        if zero_point is None or zero_point.any():
            return False
        shifted = shifted.input_value(0).get_node()
    read = shifted.get_input_element_type(0).get_type_name() if shifted.get_type_name() == "Convert" else ""
    return read in ("u8", "i8")


def _constant(node: Any) -> np.ndarray | None:
    if node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    return np.asarray(node.data) if node.get_type_name() == "Constant" else None


def _fill(pool: Any) -> None:
    """Pad -> pool -> slice; axis 1 are the channels."""
    from openvino import opset13 as operators

    shape = pool.get_input_partial_shape(0)
    channels = shape[1].get_length()
    more = np.zeros(len(shape), dtype=np.int64)
    more[1] = -channels % REGISTER
    filled = operators.pad(pool.input_value(0), np.zeros_like(more), more, "constant", np.float32(0))
    readers = list(pool.output(0).get_target_inputs())
    pool.input(0).replace_source_output(filled.output(0))
    cut = operators.slice(pool.output(0), np.array([0]), np.array([channels]), np.array([1]), np.array([1]))
    for node, does in ((filled, "fill"), (cut, "cut")):
        node.set_friendly_name(f"{pool.get_friendly_name()}/{does}")
    for reader in readers:
        reader.replace_source_output(cut.output(0))
