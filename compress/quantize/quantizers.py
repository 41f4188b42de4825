"""The two quantizers behind `quantize_model`: ONNX Runtime's (static, dynamic) and NNCF's, streamed and silent."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from compress.quantize.activations import observe
from compress.quantize.histogram import Histogram
from compress.quantize.ranges import chosen_range
from compress.quantize.samples import Samples
from export.errors import QualityError
from targets.base import Arrays, Scheme
from targets.graph import has_attention

if TYPE_CHECKING:
    import onnx

    from export.model import OnnxModel

_ATTENTION_OPERATORS = ("Conv", "MatMul", "Gemm", "Gather")
"""What a transformer is quantized in. With residual sums and softmax as well, MiniLM changes 36 % of its predictions
against 12 %, and is no faster (ONNX Runtime 1.31, Zen 3)."""

PLACING = 16
"""Samples that NNCF sees where its own ranges are replaced: it needs one to place its nodes, ResNet-56 takes it 50 s for 512."""


def static_with_onnxruntime(samples: Iterable[Arrays], prepared: onnx.ModelProto, scheme: Scheme) -> onnx.ModelProto:
    """Q/DQ nodes by ONNX Runtime's quantizer, ranges by our own observer.

    `quantize_static` keeps all calibration data, its CalibMaxIntermediateOutputs (1.31) forgets batches instead of merging
    them. The output of a Gemm, mostly the logits, stays float: the next step is a softmax or an argmax outside.
    """
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    operators = (
        list(_ATTENTION_OPERATORS) if has_attention(prepared.graph) else sorted({*QLinearOpsRegistry, *QDQRegistry})
    )
    histograms = observe(prepared, _touched(prepared.graph, operators), samples)
    refuse_broken_ranges(histograms)
    symmetric = scheme.symmetric_activations
    ranges = {
        name: tuple(np.array(end, np.float32) for end in chosen_range(histogram, scheme.ranges, 256, symmetric))
        for name, histogram in histograms.items()
    }
    types = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}
    copy = onnx.ModelProto()
    copy.CopyFrom(prepared)  # the quantizer works in place, and the float model is still needed
    quantizer = QDQQuantizer(
        copy,
        scheme.per_channel,
        scheme.reduce_range,
        types[scheme.weights],
        types[scheme.activations],
        TensorsData(CalibrationMethod.MinMax, ranges),
        [],
        _tables_of_one_row(prepared.graph),
        operators,
        {
            "MatMulConstBOnly": True,
            "ActivationSymmetric": symmetric,
            "QuantizeBias": scheme.quantize_bias,
            "OpTypesToExcludeOutputQuantization": ["Gemm"],
        },
    )
    quantizer.quantize_model()
    return cast("onnx.ModelProto", quantizer.model.model)


def _tables_of_one_row(graph: onnx.GraphProto) -> list[str]:
    """Names of embeddings that know a single token, such as a BERT's of one token type: nothing is gained by 8 bits there, and
    OpenVINO (2026.4) fails to fold them."""
    rows = {tensor.name: tensor.dims[0] for tensor in graph.initializer if len(tensor.dims) == 2}
    return [node.name for node in graph.node if node.op_type == "Gather" and rows.get(node.input[0]) == 1]


def dynamic_with_onnxruntime(prepared: onnx.ModelProto, scheme: Scheme, folder: Path) -> onnx.ModelProto:
    """INT8 weights; the ranges of activations are taken anew at every inference. Convolutions stay float:
    ConvInteger is slower than FP32."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    onnx.save(prepared, folder / "prepared.onnx")
    quantize_dynamic(
        folder / "prepared.onnx",
        folder / "dynamic.onnx",
        op_types_to_quantize=["MatMul", "Gemm", "Gather", "LSTM", "Attention"],
        per_channel=scheme.per_channel,
        reduce_range=scheme.reduce_range,
        weight_type=QuantType.QInt8 if scheme.weights == "int8" else QuantType.QUInt8,
    )
    return onnx.load(folder / "dynamic.onnx")


def with_nncf(samples: Samples, prepared: onnx.ModelProto, scheme: Scheme) -> onnx.ModelProto:
    """Q/DQ nodes where NNCF wants them for OpenVINO; its own ranges stand for transformers alone.

    NNCF takes symmetric activations, asymmetric ones for transformers. Each has one range a tensor: ONNX Runtime
    refuses the per-channel zero points that NNCF gives to depthwise convolutions by default.
    """
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters as Advanced
    from nncf.quantization.advanced_parameters import OverflowFix, QuantizationParameters

    transformer = has_attention(prepared.graph)
    seen = len(samples) if transformer else min(PLACING, len(samples))
    with without_bars():
        quantized = nncf.quantize(
            prepared,
            nncf.Dataset(samples),
            subset_size=seen,
            ignored_scope=nncf.IgnoredScope(names=_tables_of_one_row(prepared.graph)),
            model_type=nncf.ModelType.TRANSFORMER if transformer else None,
            advanced_parameters=Advanced(
                activations_quantization_params=QuantizationParameters(per_channel=False),
                overflow_fix=OverflowFix.ENABLE if scheme.reduce_range else OverflowFix.DISABLE,
                disable_bias_correction=scheme.bias_correction,
            ),
        )
    return cast("onnx.ModelProto", quantized)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the quantizers' warnings and loggers; errors still come out as exceptions."""
    import onnxruntime

    disabled = logging.root.manager.disable
    onnxruntime.set_default_logger_severity(3)
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        onnxruntime.set_default_logger_severity(2)


@contextmanager
def without_bars() -> Iterator[None]:
    """NNCF draws its progress bars on rich's global console; our own use another one."""
    import rich

    console = rich.get_console()
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


def prepare(model: OnnxModel, folder: Path) -> onnx.ModelProto:
    """The model with constants and batch norms folded, each node named, and its shapes inferred, which the quantizers read.

    In place of `quant_pre_process`: its symbolic shape inference fails on graphs of the dynamo exporter and leaves
    files in the current directory.
    """
    import onnx
    import onnxruntime

    path = folder / "prepared.onnx"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
    prepared = onnx.shape_inference.infer_shapes(onnx.load(path))
    for index, node in enumerate(prepared.graph.node):
        node.name = node.name or f"{node.op_type}-{index}"
    _rename_shared(prepared.graph)
    prepared.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    return prepared


def _rename_shared(graph: onnx.GraphProto) -> None:
    """ONNX Runtime's quantizer (1.31) names its copy of a bias that several nodes read by the bias and a number: "val_11" becomes
    "val_117", and it does not look whether a tensor of that name is there."""
    readers = Counter(name for node in graph.node for name in set(node.input))
    shared = [tensor for tensor in graph.initializer if readers[tensor.name] > 1 and len(tensor.dims) == 1]
    names = {tensor.name: f"{tensor.name}_shared" for tensor in shared}
    for tensor in shared:
        tensor.name = names[tensor.name]
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


def _touched(graph: onnx.GraphProto, operators: Collection[str]) -> list[str]:
    """The float tensors that nodes of these kinds read or write, constants aside: whatever a range may be asked for."""
    import onnx

    constants = {tensor.name for tensor in graph.initializer}
    told = (*graph.input, *graph.value_info, *graph.output)
    floats = {value.name for value in told if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT} - constants
    touched = (name for node in graph.node if node.op_type in operators for name in (*node.input, *node.output))
    return [name for name in dict.fromkeys(touched) if name in floats]


def refuse_broken_ranges(histograms: Mapping[str, Histogram]) -> None:
    for name, histogram in histograms.items():
        if not (np.isfinite(histogram.low) and np.isfinite(histogram.high)):
            raise QualityError(
                f"quantize: tensor '{name}' reaches NaN or Inf on the calibration data, so that its scale would be one; "
                "only finite values are allowed: check the checkpoint, the training and the calibration data"
            )
