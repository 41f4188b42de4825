"""`quantize_model`: carry out one target's scheme on an ONNX model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compress.quantize import quantizers
from compress.quantize.activations import needed
from compress.quantize.bias import correct_biases
from compress.quantize.equalize import equalized
from compress.quantize.layers import QdqModel
from compress.quantize.rescale import rescale_activations
from compress.quantize.rounding import learn_rounding
from compress.quantize.samples import Samples
from compress.quantize.scales import refuse_broken_scales
from compress.quantize.smooth import smoothed
from compress.quantize.weight_only import weights_with_nncf, weights_with_onnxruntime
from compress.quantize.weights import requantize_weights
from export.errors import InputError, QualityError
from export.model import OnnxModel
from targets.base import Arrays, Scheme
from targets.graph import has_attention

if TYPE_CHECKING:
    import onnx

_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def quantize_model(model: OnnxModel, calibration: Iterable[Arrays], scheme: Scheme, out: Path) -> OnnxModel:
    """Insert the quantization of `scheme` into an ONNX model.

    Args:
        model: in float32.
        calibration: batches of named inputs, first axis the sample; read once, and only by static schemes.
        scheme: of the target that will compile the result; its `quantizer` is not "none".
        out: the ONNX file to write; nothing else is left on disk.

    Raises:
        InputError: if the calibration data is empty, lacks an input, or holds NaN or Inf.
        QualityError: if a weight is NaN or Inf, or a resulting scale is that or not above 0; names the tensor.
    """
    import onnx

    refuse_broken_weights(model.proto().graph)
    with tempfile.TemporaryDirectory(prefix="compress-quantize-") as folder, quantizers.quiet():
        batches = checked(calibration, model) if scheme.needs_calibration else iter(())
        samples = Samples.spool(batches, Path(folder))
        prepared = quantizers.prepare(model, Path(folder))
        if scheme.quantizer == "none":
            raise ValueError(
                f"scheme '{scheme.name}': quantizer '{scheme.quantizer}' inserts nothing; compile it as it is"
            )
        quantized = _quantized(prepared, samples, scheme, Path(folder))
    refuse_broken_scales(quantized.graph)
    del quantized.graph.value_info[:]
    onnx.save(quantized, out)
    return OnnxModel.read(out)


def quantize_as_it_is(model: OnnxModel, inputs: Arrays, scheme: Scheme, out: Path) -> OnnxModel:
    """Insert Q/DQ nodes alone, from one batch: for what is timed and answers nobody. Shapes may be fixed."""
    import onnx

    with tempfile.TemporaryDirectory(prefix="compress-quantize-") as folder, quantizers.quiet():
        prepared = quantizers.prepare(model, Path(folder))
        if scheme.mode == "dynamic":
            quantized = quantizers.dynamic_with_onnxruntime(prepared, scheme, Path(folder))
        else:
            quantized = quantizers.static_with_onnxruntime([inputs], prepared, scheme)
    del quantized.graph.value_info[:]
    onnx.save(quantized, out)
    return OnnxModel.read(out)


def _quantized(prepared: onnx.ModelProto, samples: Samples, scheme: Scheme, folder: Path) -> onnx.ModelProto:
    if scheme.mode == "static":
        original = equalized(prepared) if scheme.equalize else prepared
        return _static(smoothed(original, samples, scheme.smooth) if scheme.smooth else original, samples, scheme)
    if scheme.mode == "dynamic":
        return quantizers.dynamic_with_onnxruntime(prepared, scheme, folder)
    if scheme.quantizer == "nncf":
        return weights_with_nncf(prepared, scheme)
    return weights_with_onnxruntime(prepared, scheme)


def _static(original: onnx.ModelProto, samples: Samples, scheme: Scheme) -> onnx.ModelProto:
    """Place the Q/DQ nodes, then make the best of their scales, weights and biases; nodes in order of execution."""
    if scheme.quantizer == "nncf":
        quantized = QdqModel(quantizers.with_nncf(samples, original, scheme))
        if not has_attention(original.graph):
            rescale_activations(quantized, original, samples, scheme.ranges)
    else:
        quantized = QdqModel(quantizers.static_with_onnxruntime(samples, original, scheme))
    if scheme.weight_bits == 4:
        requantize_weights(quantized, original, bits=4)
    if scheme.adaround:
        learn_rounding(quantized, original, samples, scheme.weight_bits, scheme.reduce_range)
    elif scheme.bias_correction:
        correct_biases(quantized, original, samples)
    proto = quantized.proto
    ordered = needed(proto.graph, [value.name for value in proto.graph.output])
    del proto.graph.node[:]
    proto.graph.node.extend(ordered)
    return proto


def checked(calibration: Iterable[Arrays], model: OnnxModel) -> Iterator[Arrays]:
    """The same batches with the model's inputs only; the first one is read at once, so that no data fails early."""
    batches = iter(calibration)
    first = next(batches, None)
    if first is None or len(next(iter(first.values()), ())) == 0:
        raise InputError(
            "calibration data: found no sample, allowed: 1 or more (300 is usual); give calibration batches"
        )
    names = [spec.name for spec in model.inputs]
    return (_checked_batch(batch, names, number) for number, batch in enumerate(chain([first], batches)))


def _checked_batch(batch: Arrays, names: list[str], number: int) -> Arrays:
    missing = [name for name in names if name not in batch]
    if missing:
        raise InputError(
            f"calibration data, batch {number}: found inputs {', '.join(batch)}, lacking {', '.join(missing)}; "
            "each batch must hold every input of the model by name"
        )
    for name in names:
        if batch[name].dtype.kind == "f" and not np.isfinite(batch[name]).all():
            count = int(np.size(batch[name]) - np.isfinite(batch[name]).sum())
            raise InputError(
                f"calibration data, batch {number}: input '{name}' holds {count} NaN or Inf values; only finite ones "
                "are allowed: mend the data or its preprocessing"
            )
    return {name: batch[name] for name in names}


def refuse_broken_weights(graph: onnx.GraphProto) -> None:
    """Raise QualityError if a weight of a product or convolution is NaN or Inf (a mask elsewhere may well be)."""
    used = {name: node for node in graph.node if node.op_type in _WEIGHTED for name in node.input}
    for tensor in graph.initializer:
        if tensor.name in used:
            _refuse_non_finite(tensor, f"weight '{tensor.name}' of node '{used[tensor.name].name}'")


def _refuse_non_finite(tensor: onnx.TensorProto, what: str) -> None:
    from onnx import numpy_helper

    values = np.asarray(numpy_helper.to_array(tensor))
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        broken = int(values.size - np.isfinite(values).sum())
        raise QualityError(
            f"quantize: {what} holds {broken} NaN or Inf values of {values.size}; only finite ones are allowed: "
            "check the checkpoint, the training and the calibration data"
        )
