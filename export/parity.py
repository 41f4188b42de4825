"""Parity: the exported model computes what the torch model computes, at several batch sizes and lengths.

The difference of two outputs is measured against the output's own scale, its largest absolute value.
Element by element, a logit near zero would turn rounding into a large relative difference, and an absolute limit means
nothing to a network whose outputs are in the thousands. FP32 rounding in another order gives 1e-7 to 1e-4 here; a
wrong operator gives 1e-2 and more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from export.calling import call
from export.errors import QualityError, UnsupportedError
from export.model import OnnxModel
from export.trace import DynamicAxes, evaluating

BATCHES = (1, 2, 7)
SMALLEST_SCALE = 1e-3
"""Outputs below this are compared absolutely: rounding of the activations before them is of the order 1e-7."""


@dataclass(frozen=True)
class ParityCase:
    """The worst output at one choice of sizes: axis name -> size."""

    sizes: Mapping[str, int]
    output: str
    relative: float
    absolute: float


@dataclass(frozen=True)
class Parity:
    """What was compared and the differences found; `warnings` are sentences for the report."""

    tolerance: float
    cases: tuple[ParityCase, ...]
    warnings: tuple[str, ...] = ()

    @property
    def largest_relative(self) -> float:
        return max(case.relative for case in self.cases)

    @property
    def largest_absolute(self) -> float:
        return max(case.absolute for case in self.cases)

    @property
    def passed(self) -> bool:
        return self.largest_relative <= self.tolerance

    def to_json(self) -> dict[str, Any]:
        return {
            "tolerance": self.tolerance,
            "relative_to": "the largest absolute value of the output in torch",
            "largest_relative": self.largest_relative,
            "largest_absolute": self.largest_absolute,
            "passed": self.passed,
            "cases": [{**vars(case), "sizes": dict(case.sizes)} for case in self.cases],
            "warnings": list(self.warnings),
        }


def check_parity(
    model: nn.Module,
    onnx_model: OnnxModel,
    example_inputs: Mapping[str, Tensor],
    dynamic_axes: DynamicAxes,
    tolerance: float = 1e-3,
) -> Parity:
    """Compare torch with ONNX Runtime (CPU, FP32) on batches of 1, 2 and 7 and two sizes of every other dynamic axis.

    The inputs are the example's, repeated or cut. A fixed batch is compared at the example's size.

    Raises:
        QualityError: if an output is NaN, or differs by more than `tolerance` of its scale.
        UnsupportedError: if the ONNX model fails at some size, or torch has no second size of a dynamic axis.
    """
    with evaluating(model):
        cases = list(_choose_cases(model, example_inputs, dynamic_axes))
        expected = [_arrays(call(model, inputs)) for _, inputs in cases]
        warnings = _batch_dependence(model, example_inputs, dynamic_axes, tolerance)
    names = [spec.name for spec in onnx_model.outputs]
    found = _run_onnx(onnx_model, cases, names)
    compared = [
        _worst(names, sizes, torch_outputs, onnx_outputs)
        for (sizes, _), torch_outputs, onnx_outputs in zip(cases, expected, found, strict=True)
    ]
    parity = Parity(tolerance, tuple(compared), warnings)
    if not parity.passed:
        raise QualityError(_describe_failure(parity))
    return parity


def inputs_at(inputs: Mapping[str, Tensor], axes: DynamicAxes, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """The inputs with every named axis repeated or cut to its size; axes not in `sizes` stay."""
    result = dict(inputs)
    for name, named in axes.items():
        for axis, axis_name in named.items():
            if axis_name in sizes:
                rows = torch.arange(sizes[axis_name]) % inputs[name].shape[axis]
                result[name] = result[name].index_select(axis, rows)
    return result


def relative_difference(expected: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Largest difference over the largest finite absolute value of `expected`, and the largest difference itself.

    Equal infinities do not differ; values of any dtype are compared in float64.
    """
    a, b = expected.astype(np.float64), found.astype(np.float64)
    if a.size == 0:
        return 0.0, 0.0
    same = a == b
    absolute = float(np.max(np.abs(np.subtract(a, b, where=~same, out=np.zeros_like(a)))))
    scale = float(np.max(np.abs(a), where=np.isfinite(a), initial=0.0))
    return absolute / max(scale, SMALLEST_SCALE), absolute


Case = tuple[dict[str, int], dict[str, Tensor]]
"""Sizes of the dynamic axes, and inputs of these sizes."""


def _choose_cases(model: nn.Module, example: Mapping[str, Tensor], axes: DynamicAxes) -> Iterator[Case]:
    own = {axis_name: example[name].shape[axis] for name, named in axes.items() for axis, axis_name in named.items()}
    batch = _batch_axis(axes)
    for size in BATCHES if batch else ():
        sizes = own | {batch: size}
        yield sizes, inputs_at(example, axes, sizes)
    if not batch:
        yield own, dict(example)
    for axis_name in own:
        if axis_name != batch:
            yield _second_size(model, example, axes, own, axis_name)


def _batch_axis(axes: DynamicAxes) -> str:
    """The name of the inputs' first axis; empty if it is fixed."""
    return next((named[0] for named in axes.values() if 0 in named), "")


def _second_size(
    model: nn.Module, example: Mapping[str, Tensor], axes: DynamicAxes, own: Mapping[str, int], axis_name: str
) -> Case:
    """A size other than the example's that the torch model takes: half of it, or twice."""
    reasons = []
    for size in (own[axis_name] // 2, own[axis_name] * 2):
        sizes = {**own, axis_name: size}
        inputs = inputs_at(example, axes, sizes)
        try:
            call(model, inputs)
        except Exception as error:  # the user's forward can raise anything
            reasons.append(f"{size}: {type(error).__name__}: {str(error).strip().splitlines()[0]}")
        else:
            return sizes, inputs
    raise UnsupportedError(
        f"export: the axis '{axis_name}' is declared dynamic, but the torch model itself fails at other sizes than "
        f"{own[axis_name]} ({'; '.join(reasons)}); take it out of dynamic_axes"
    )


def _batch_dependence(
    model: nn.Module, example: Mapping[str, Tensor], axes: DynamicAxes, tolerance: float
) -> tuple[str, ...]:
    """A warning if the first sample's answer in torch depends on the samples beside it."""
    batch = _batch_axis(axes)
    if not batch:
        return ()
    alone, together = (_arrays(call(model, inputs_at(example, axes, {batch: size}))) for size in (1, max(BATCHES)))
    pairs = [(a, b[:1]) for a, b in zip(alone, together, strict=True) if a.ndim and len(b) == max(BATCHES)]
    difference = max((relative_difference(b, a)[0] for a, b in pairs), default=0.0)
    if difference <= tolerance:
        return ()
    return (
        f"the model's answer for a sample depends on the other samples of its batch: alone and in a batch of "
        f"{max(BATCHES)} it differs by {difference:.2g} of the output's scale (tolerance {tolerance:g}); "
        "its accuracy holds only for the batch size that it was measured with",
    )


def _run_onnx(onnx_model: OnnxModel, cases: Sequence[Case], names: list[str]) -> list[list[np.ndarray]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # a failure is raised, not printed
    results = []
    try:
        session = onnxruntime.InferenceSession(onnx_model.path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has one class for each status, with no common base but Exception
        raise UnsupportedError(f"export: ONNX Runtime cannot load {onnx_model.path.name}: {error}") from error
    for sizes, inputs in cases:
        feed = {name: tensor.numpy() for name, tensor in inputs.items()}
        try:
            results.append(session.run(names, feed))
        except Exception as error:
            first_line = str(error).strip().splitlines()[0]
            raise UnsupportedError(
                f"export: the ONNX model fails at {_show(sizes)}, where the torch model runs: {first_line}. "
                "Tracing fixed a size (compute sizes from x.shape), or the runtime takes the operator in another opset only"
            ) from error
    return results


def _worst(
    names: list[str], sizes: dict[str, int], expected: Sequence[np.ndarray], found: Sequence[np.ndarray]
) -> ParityCase:
    compared = []
    for name, a, b in zip(names, expected, found, strict=True):
        _refuse_nan(a, f"the torch model gives NaN in output '{name}' at {_show(sizes)}; check its weights and example")
        _refuse_nan(b, f"the ONNX model gives NaN in output '{name}' at {_show(sizes)}, where the torch model does not")
        if a.shape != b.shape:
            raise QualityError(
                f"export: output '{name}' at {_show(sizes)}: torch gives the shape {a.shape}, ONNX {b.shape}; "
                "the model fixes a size. Compute sizes from x.shape"
            )
        compared.append(ParityCase(sizes, name, *relative_difference(a, b)))
    return max(compared, key=lambda case: case.relative)


def _refuse_nan(values: np.ndarray, sentence: str) -> None:
    if count := int(np.isnan(values).sum()):
        raise QualityError(f"export: {sentence} ({count} of {values.size} values)")


def _describe_failure(parity: Parity) -> str:
    worst = max(parity.cases, key=lambda case: case.relative)
    passing = [_show(case.sizes) for case in parity.cases if case.relative <= parity.tolerance]
    where = f"; within tolerance at {', '.join(passing)}" if passing else ""
    return (
        f"export: output '{worst.output}' at {_show(worst.sizes)}: the ONNX model differs from torch by "
        f"{worst.relative:.2g} of the output's scale ({worst.absolute:.2g} absolute), "
        f"allowed {parity.tolerance:g}{where}. "
        "A branch on a size or value was fixed by tracing, or an operator is translated wrongly: compare smaller parts"
    )


def _show(sizes: Mapping[str, int]) -> str:
    return " ".join(f"{name}={size}" for name, size in sizes.items()) or "the example's sizes"


def _arrays(outputs: Sequence[Tensor]) -> list[np.ndarray]:
    return [output.detach().cpu().numpy() for output in outputs]
