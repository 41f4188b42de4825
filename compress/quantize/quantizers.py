"""The two quantizers behind `quantize_model`: ONNX Runtime's (static, dynamic) and NNCF's, streamed and silent."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from export.errors import QualityError
from targets.base import Arrays, Scheme
from targets.graph import has_attention

if TYPE_CHECKING:
    import onnx

    from export.model import OnnxModel

_ATTENTION_OPERATORS = ("Conv", "MatMul", "Gemm", "Gather")
"""What a transformer is quantized in. With residual sums and softmax as well, MiniLM changes 36 % of its predictions
against 12 %, and is no faster (ONNX Runtime 1.31, Zen 3)."""


def static_with_onnxruntime(
    batches: Iterator[Arrays], model: OnnxModel, scheme: Scheme, folder: Path
) -> onnx.ModelProto:
    """Q/DQ nodes with ranges from calibration data.

    The ranges are minima and maxima, merged after every batch, so that memory does not grow with the data:
    `quantize_static` keeps all of it, and its CalibMaxIntermediateOutputs (1.31) forgets batches instead of merging them.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    prepared = _prepare(model, folder)
    operators = (
        list(_ATTENTION_OPERATORS) if has_attention(prepared.graph) else sorted({*QLinearOpsRegistry, *QDQRegistry})
    )
    calibrator = create_calibrator(
        folder / "prepared.onnx", operators, str(folder / "calibrated.onnx"), CalibrationMethod.MinMax
    )
    for batch in batches:
        calibrator.collect_data(_OneBatch(batch))
    ranges = calibrator.compute_data()
    _refuse_broken_ranges({name: ranges[name].range_value for name in ranges.keys()})  # noqa: SIM118 - not a mapping
    types = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}
    quantizer = QDQQuantizer(
        prepared,
        scheme.per_channel,
        scheme.reduce_range,
        types[scheme.weights],
        types[scheme.activations],
        ranges,
        [],
        [],
        operators,
        {
            "MatMulConstBOnly": True,
            "ActivationSymmetric": scheme.symmetric_activations,
            "QuantizeBias": scheme.quantize_bias,
        },
    )
    quantizer.quantize_model()
    return cast("onnx.ModelProto", quantizer.model.model)


def dynamic_with_onnxruntime(model: OnnxModel, scheme: Scheme, folder: Path) -> onnx.ModelProto:
    """INT8 weights; the ranges of activations are taken anew at every inference. Convolutions stay float:
    ConvInteger is slower than FP32."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    _prepare(model, folder)
    quantize_dynamic(
        folder / "prepared.onnx",
        folder / "dynamic.onnx",
        op_types_to_quantize=["MatMul", "Gemm", "Gather", "LSTM", "Attention"],
        per_channel=scheme.per_channel,
        reduce_range=scheme.reduce_range,
        weight_type=QuantType.QInt8 if scheme.weights == "int8" else QuantType.QUInt8,
    )
    return onnx.load(folder / "dynamic.onnx")


def with_nncf(batches: Iterator[Arrays], model: OnnxModel, scheme: Scheme, folder: Path) -> onnx.ModelProto:
    """NNCF's post-training quantization with bias correction, and with smoothing of outliers for transformers.

    NNCF takes symmetric activations, asymmetric ones for transformers. Each has one range a tensor: ONNX Runtime
    refuses the per-channel zero points that NNCF gives to depthwise convolutions by default.
    """
    os.environ.setdefault("NNCF_CI", "1")  # NNCF reports each use to its vendor unless this is set before its import.
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters as Advanced
    from nncf.quantization.advanced_parameters import OverflowFix, QuantizationParameters

    proto = model.proto()
    samples = _SpooledSamples(batches, folder)
    with _without_bars():
        quantized = nncf.quantize(
            proto,
            nncf.Dataset(samples),
            subset_size=len(samples),
            model_type=nncf.ModelType.TRANSFORMER if has_attention(proto.graph) else None,
            advanced_parameters=Advanced(
                activations_quantization_params=QuantizationParameters(per_channel=False),
                overflow_fix=OverflowFix.ENABLE if scheme.reduce_range else OverflowFix.DISABLE,
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
def _without_bars() -> Iterator[None]:
    """NNCF draws its progress bars on rich's global console; our own use another one."""
    import rich

    console = rich.get_console()
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


def _prepare(model: OnnxModel, folder: Path) -> onnx.ModelProto:
    """Fold constants and batch norms into `folder/prepared.onnx` and infer the shapes, which the quantizer reads.

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
    prepared.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    onnx.save(prepared, path)
    return prepared


def _refuse_broken_ranges(ranges: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    for name, (lowest, highest) in ranges.items():
        if not (np.isfinite(lowest).all() and np.isfinite(highest).all()):
            raise QualityError(
                f"quantize: tensor '{name}' reaches NaN or Inf on the calibration data, so that its scale would be one; "
                "only finite values are allowed: check the checkpoint, the training and the calibration data"
            )


class _OneBatch:
    """A CalibrationDataReader of one batch."""

    def __init__(self, batch: Arrays) -> None:
        self._left: list[Arrays] = [batch]

    def get_next(self) -> Arrays | None:
        return self._left.pop() if self._left else None


class _SpooledSamples:
    """Single samples on disk, to be iterated again and again: NNCF passes over the data up to three times.

    Single, because NNCF averages the largest value over items: with batches for items, ranges would grow with their size.
    """

    def __init__(self, batches: Iterator[Arrays], folder: Path) -> None:
        self._paths: list[Path] = []
        for batch in batches:
            for row in range(len(next(iter(batch.values())))):
                self._paths.append(folder / f"sample-{len(self._paths)}.npz")
                np.savez(self._paths[-1], **{name: array[row : row + 1] for name, array in batch.items()})  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[Arrays]:
        for path in self._paths:
            with np.load(path, allow_pickle=False) as arrays:
                yield dict(arrays)
