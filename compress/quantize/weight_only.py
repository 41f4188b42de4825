"""Weight-only quantization of matrix products: INT8 or INT4 in blocks, activations in float."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import onnx

    from targets.base import Scheme

BLOCK = 32
"""Weights along the inputs that share a scale."""
INT8_PRODUCTS = 4
"""ONNX Runtime's accuracy level at which MatMulNBits quantizes activations block by block at run time, and multiplies in INT8."""


def weights_with_onnxruntime(model: onnx.ModelProto, scheme: Scheme) -> onnx.ModelProto:
    """Each MatMul of a constant becomes ONNX Runtime's MatMulNBits."""
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import (
        DefaultWeightOnlyQuantConfig,
        MatMulNBitsQuantizer,
    )

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    config = DefaultWeightOnlyQuantConfig(
        block_size=BLOCK, is_symmetric=True, bits=scheme.weight_bits, accuracy_level=INT8_PRODUCTS
    )
    quantizer = MatMulNBitsQuantizer(copy, algo_config=config)
    quantizer.process()
    return cast("onnx.ModelProto", quantizer.model.model)


def weights_with_nncf(model: onnx.ModelProto, scheme: Scheme) -> onnx.ModelProto:
    """Each MatMul and Gather of a constant reads it through a DequantizeLinear: INT8 by channel, INT4 in blocks.

    Asymmetric: NNCF's symmetric scales (3.4) carry a sign. Convolutions and Gemm stay float: OpenVINO's reader (2026.4) refuses
    the shape of the scales that NNCF gives them.
    """
    import nncf
    import onnx

    from compress.quantize.quantizers import without_bars

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    int8, int4 = nncf.CompressWeightsMode.INT8_ASYM, nncf.CompressWeightsMode.INT4_ASYM
    with without_bars():
        compressed = nncf.compress_weights(
            copy,
            mode=int8 if scheme.weight_bits == 8 else int4,
            group_size=None if scheme.weight_bits == 8 else BLOCK,
            ignored_scope=nncf.IgnoredScope(types=["Conv", "ConvTranspose", "Gemm"], validate=False),
        )
    return cast("onnx.ModelProto", compressed)
