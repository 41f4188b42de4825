"""Parity with ONNX Runtime; differences against values worked out by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from export.errors import QualityError, UnsupportedError
from export.model import OnnxModel
from export.parity import Parity, check_parity, inputs_at, relative_difference
from export.to_onnx import to_onnx
from export.trace import DynamicAxes
from tests.export import models


def export_and_check(
    model: nn.Module, folder: Path, axes: DynamicAxes = models.BATCH, inputs: Mapping[str, Tensor] | None = None
) -> Parity:
    inputs = models.image() if inputs is None else inputs
    return check_parity(model, to_onnx(model, inputs, axes, ["logits"], folder / "model.onnx"), inputs, axes)


def with_head_scaled(model: OnnxModel, factor: float) -> OnnxModel:
    """The same file with the last layer's weights multiplied: a model that computes something else."""
    proto = model.proto()
    for tensor in proto.graph.initializer:
        if tensor.name.startswith("head"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name))
    onnx.save(proto, model.path)
    return model


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    path = tmp_path_factory.mktemp("convolution") / "model.onnx"
    return to_onnx(models.Convolution(), models.image(), models.BATCH, ["logits"], path)


@pytest.fixture
def convolution(exported: OnnxModel, tmp_path: Path) -> OnnxModel:
    """A copy of the exported model, to be damaged."""
    return replace(exported, path=Path(shutil.copy(exported.path, tmp_path)))


def test_batches_of_1_2_and_7_and_two_sizes_of_the_other_axis(tmp_path: Path) -> None:
    model = models.Convolution().train()
    parity = export_and_check(model, tmp_path, models.FREE)
    sizes = [tuple(case.sizes.values()) for case in parity.cases]
    assert sizes == [(1, 8), (2, 8), (7, 8), (2, 4)]
    assert parity.passed and parity.largest_relative < 1e-5
    assert parity.warnings == ()
    assert model.training
    assert json.loads(json.dumps(parity.to_json()))["cases"][3]["sizes"] == {"batch": 2, "height": 4}


def test_fixed_batch_is_compared_at_its_own_size(tmp_path: Path) -> None:
    parity = export_and_check(models.BakedBatch(), tmp_path, {})
    assert [case.sizes for case in parity.cases] == [{}]


def test_wrong_weights_are_found(convolution: OnnxModel) -> None:
    with pytest.raises(
        QualityError, match=r"output 'logits' at batch=\d: .* differs from torch by 0.5 .*allowed 0.001"
    ):
        check_parity(models.Convolution(), with_head_scaled(convolution, 1.5), models.image(), models.BATCH)


def test_tolerance_is_the_callers(convolution: OnnxModel) -> None:
    scaled = with_head_scaled(convolution, 1.01)
    parity = check_parity(models.Convolution(), scaled, models.image(), models.BATCH, tolerance=0.02)
    assert parity.largest_relative == pytest.approx(0.01, rel=1e-3)


def test_nan_of_the_onnx_model(convolution: OnnxModel) -> None:
    with pytest.raises(QualityError, match=r"the ONNX model gives NaN in output 'logits' at batch=1.*5 of 5 values"):
        check_parity(models.Convolution(), with_head_scaled(convolution, np.nan), models.image(), models.BATCH)


def test_nan_of_the_torch_model(convolution: OnnxModel) -> None:
    inputs = models.image()
    inputs["image"][0] = torch.nan
    with pytest.raises(
        QualityError, match="the torch model gives NaN in output 'logits' at batch=1; check its weights"
    ):
        check_parity(models.Convolution(), convolution, inputs, models.BATCH)


def test_branch_fixed_by_tracing_is_found(tmp_path: Path) -> None:
    with pytest.raises(QualityError, match=r"at batch=7: .*; within tolerance at batch=1, batch=2. A branch on a size"):
        export_and_check(models.BranchOnSize(), tmp_path)


def test_batch_dependent_model_gets_a_warning(tmp_path: Path) -> None:
    [warning] = export_and_check(models.BatchNormalised(), tmp_path).warnings
    assert "depends on the other samples of its batch: alone and in a batch of 7 it differs by" in warning


def test_file_that_fails_at_another_size(tmp_path: Path) -> None:
    model = to_onnx(models.Convolution(), models.image(), {}, ["logits"], tmp_path / "model.onnx")
    with pytest.raises(UnsupportedError, match=r"the ONNX model fails at batch=1, where the torch model runs: .*image"):
        check_parity(models.Convolution(), model, models.image(), models.BATCH)


def test_file_that_is_no_model(convolution: OnnxModel) -> None:
    convolution.path.write_bytes(b"no model")
    with pytest.raises(UnsupportedError, match=r"ONNX Runtime cannot load model.onnx"):
        check_parity(models.Convolution(), convolution, models.image(), models.BATCH)


def test_axis_that_torch_itself_cannot_change(tmp_path: Path, convolution: OnnxModel) -> None:
    class Fixed(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image.flatten(1) @ torch.ones(192, 1)

    with pytest.raises(
        UnsupportedError, match=r"axis 'height' is declared dynamic, but the torch model itself fails.*4: "
    ):
        check_parity(Fixed(), convolution, {"image": torch.ones(3, 3, 8, 8)}, models.FREE)


def test_difference_is_relative_to_the_largest_value() -> None:
    expected, found = np.array([[1e-6, 10.0]]), np.array([[2e-6, 10.02]])
    assert relative_difference(expected, found) == (pytest.approx(0.002), pytest.approx(0.02))


def test_difference_of_tiny_outputs_is_not_blown_up() -> None:
    assert relative_difference(np.array([0.0, 1e-9]), np.array([1e-8, 0.0]))[0] == pytest.approx(1e-5)


def test_equal_infinities_do_not_differ() -> None:
    masked = np.array([-np.inf, 1.0])
    assert relative_difference(masked, masked + np.array([0, 0.5])) == (0.5, 0.5)
    assert relative_difference(masked, np.array([0.0, 1.0]))[0] == np.inf


def test_inputs_are_repeated_and_cut() -> None:
    inputs = inputs_at(
        {"x": torch.arange(6).reshape(2, 3)}, {"x": {0: "batch", 1: "length"}}, {"batch": 3, "length": 2}
    )
    assert inputs["x"].tolist() == [[0, 1], [3, 4], [0, 1]]
