"""Weight-only quantization: matrix products in INT8 or INT4 in blocks, embeddings in INT8, activations in float."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, cast

import numpy as np

from compress.quantize.embeddings import tied_products, with_small_embeddings
from compress.quantize.plain_products import with_plain_products

if TYPE_CHECKING:
    import onnx

    from targets.base import Scheme

BLOCK = 32
"""Weights along the inputs that share a scale."""
LEAST_BLOCK = 16
"""Where the inputs are no multiple of BLOCK, as after pruning; OpenVINO (2026.4) reads no smaller ones."""
INT8_PRODUCTS = 4
"""ONNX Runtime's accuracy level at which MatMulNBits quantizes activations block by block at run time, and multiplies in INT8."""


def weights_with_onnxruntime(model: onnx.ModelProto, scheme: Scheme) -> onnx.ModelProto:
    """Each MatMul and Gemm of a constant becomes ONNX Runtime's MatMulNBits; embeddings are read from 8 bits.

    A product that shares its weight with an embedding stays in 8 bits, so that both read the same bytes.
    """
    plain = with_plain_products(model)
    tied = tied_products(plain.graph)
    heads = {product.name for product in tied.values()}
    others = {node.name for node in plain.graph.node if node.op_type == "MatMul"} - heads
    outputs = {embedding: product.output[0] for embedding, product in tied.items()}
    return with_small_embeddings(_in_blocks(_in_blocks(plain, 8, others), scheme.weight_bits, heads), outputs)


def _in_blocks(model: onnx.ModelProto, bits: int, left: Collection[str]) -> onnx.ModelProto:
    """The products as MatMulNBits, but for those `left`."""
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

    config = DefaultWeightOnlyQuantConfig(block_size=BLOCK, is_symmetric=True, bits=bits, accuracy_level=INT8_PRODUCTS)
    quantizer = MatMulNBitsQuantizer(model, nodes_to_exclude=sorted(left), algo_config=config)
    quantizer.process()
    return cast("onnx.ModelProto", quantizer.model.model)


def weights_with_nncf(model: onnx.ModelProto, scheme: Scheme) -> onnx.ModelProto:
    """Each MatMul, Gemm and embedding of a constant reads it through a DequantizeLinear: INT8 by channel, INT4 in blocks.

    A pruned layer's inputs are no multiple of BLOCK: it gets the largest power of two that divides them, and INT8 below
    LEAST_BLOCK.

    Asymmetric: NNCF's symmetric scales (3.4) carry a sign. Convolutions stay float: OpenVINO's reader (2026.4) refuses the
    shape of the scales that NNCF gives them, as it does those of a Gemm, which is why there is none left.
    """
    import nncf

    from compress.quantize.quantizers import without_bars

    int8, int4 = nncf.CompressWeightsMode.INT8_ASYM, nncf.CompressWeightsMode.INT4_ASYM
    with without_bars():
        compressed = nncf.compress_weights(
            with_plain_products(model),
            mode=int8 if scheme.weight_bits == 8 else int4,
            group_size=None if scheme.weight_bits == 8 else BLOCK,
            ignored_scope=nncf.IgnoredScope(types=["Conv", "ConvTranspose", "Gemm"], validate=False),
            advanced_parameters=nncf.AdvancedCompressionParameters(
                group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST, min_adjusted_group_size=LEAST_BLOCK
            ),
        )
    _pack_zero_points(compressed)
    _drop_biases(compressed)
    return cast("onnx.ModelProto", compressed)


def _pack_zero_points(model: onnx.ModelProto) -> None:
    """Two zero points of 4 bits a byte, the first in the low half, as MatMulNBits is defined.

    NNCF (3.4) writes one a byte. OpenVINO reads that as two: every answer of more than one block is then wrong, and nothing
    says so. Source: ONNX Runtime's ContribOperators.md, com.microsoft.MatMulNBits.
    """
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        settings = {attribute.name: attribute.i for attribute in node.attribute}
        if node.op_type != "MatMulNBits" or settings["bits"] != 4 or len(node.input) < 4:
            continue
        tensor, blocks = constants[node.input[3]], -(-settings["K"] // settings["block_size"])
        points = numpy_helper.to_array(tensor)
        if points.shape == (settings["N"], blocks) and blocks > 1:
            even = np.pad(points, [(0, 0), (0, blocks % 2)])
            packed = (even[:, 0::2] | (even[:, 1::2] << 4)).astype(np.uint8)
            tensor.CopyFrom(numpy_helper.from_array(packed, tensor.name))


def _drop_biases(model: onnx.ModelProto) -> None:
    """NNCF (3.4) gives a product in blocks the bias that the Add behind it adds, and leaves the Add: it would count twice."""
    for node in model.graph.node:
        if node.op_type == "MatMulNBits":
            del node.input[4:]
