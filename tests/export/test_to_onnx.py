"""Export of tiny models through the real exporter, ONNX checker and ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from export.errors import InputError, QualityError, UnsupportedError
from export.model import OnnxModel, TensorSpec
from export.to_onnx import save_reference, to_onnx
from export.torch_program import read_program
from tests.export import models

TEXT = {
    "ids": torch.tensor([[1, 2, 3, 4, 5, 6], [7, 8, 9, 0, 0, 0]]),
    "mask": torch.tensor([[1] * 6, [1, 1, 1, 0, 0, 0]]),
}
TEXT_AXES = {name: {0: "batch", 1: "length"} for name in TEXT}


@pytest.fixture(scope="module")
def convolution(tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    path = tmp_path_factory.mktemp("convolution") / "model.onnx"
    return to_onnx(models.Convolution(), models.image(), models.FREE, ["logits"], path)


def test_inputs_outputs_and_dynamic_axes_are_named(convolution: OnnxModel) -> None:
    assert convolution.inputs == (TensorSpec("image", "float32", ("batch", 3, "height", 8)),)
    assert convolution.outputs == (TensorSpec("logits", "float32", ("batch", 5)),)
    assert convolution.opset == 18


def test_weights_lie_inside_under_the_names_of_the_state_dict(convolution: OnnxModel) -> None:
    names = {tensor.name for tensor in convolution.proto().graph.initializer}
    assert {"conv.weight", "head.weight", "head.bias"} <= names
    assert [file.name for file in convolution.path.parent.iterdir()] == ["model.onnx"]


def test_no_path_of_this_machine_is_in_the_file(convolution: OnnxModel) -> None:
    content = convolution.path.read_bytes()
    assert str(Path(__file__).parent).encode() not in content
    assert b"models.py" not in content and b"site-packages" not in content
    assert not convolution.proto().graph.value_info


def test_the_same_model_gives_the_same_bytes(convolution: OnnxModel, tmp_path: Path) -> None:
    again = to_onnx(models.Convolution(), models.image(), models.FREE, ["logits"], tmp_path / "again.onnx")
    assert again.path.read_bytes() == convolution.path.read_bytes()


def test_an_example_cut_out_of_a_larger_batch_serves_as_well(tmp_path: Path) -> None:
    cut = {name: tensor[:, :5] for name, tensor in TEXT.items()}
    assert not any(tensor.is_contiguous() for tensor in cut.values())
    exported = to_onnx(models.Attention(), cut, TEXT_AXES, ["logits"], tmp_path / "model.onnx")
    assert [spec.shape for spec in exported.inputs] == [("batch", "length")] * 2


def test_keyword_model_with_two_dynamic_axes_runs_at_other_sizes(tmp_path: Path) -> None:
    model = models.Attention().train()
    exported = to_onnx(model, TEXT, TEXT_AXES, ["logits"], tmp_path / "model.onnx")
    assert [spec.shape for spec in exported.inputs] == [("batch", "length")] * 2
    assert exported.outputs[0].shape == ("batch", 2)
    assert all(module.training for module in model.modules()), "the training flags are left as found"
    ids, mask = torch.arange(3 * 11).reshape(3, 11) % 20, torch.ones(3, 11, dtype=torch.int64)
    [found] = onnxruntime.InferenceSession(exported.path).run(None, {"ids": ids.numpy(), "mask": mask.numpy()})
    np.testing.assert_allclose(found, model.eval()(mask, ids).detach().numpy(), atol=1e-5)


def test_every_tensor_of_a_mapping_is_an_output(tmp_path: Path) -> None:
    exported = to_onnx(models.Everything(), models.image(), models.FREE, ["a", "b", "c"], tmp_path / "model.onnx")
    assert [(spec.name, spec.dtype) for spec in exported.outputs] == [
        ("a", "float32"),
        ("b", "int64"),
        ("c", "float32"),
    ]
    assert exported.outputs[2].shape == ("batch", 3, "height", 8)
    assert "height" in str(exported.outputs[0].shape[2]), "an axis computed from another carries its name"


def test_exporter_says_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    to_onnx(models.Convolution(), models.image(), models.BATCH, ["logits"], tmp_path / "model.onnx")
    with pytest.raises(UnsupportedError):
        to_onnx(models.BranchOnValue(), models.image(), models.BATCH, ["y"], tmp_path / "other.onnx")
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            models.BakedBatch(),
            r"fixes the dynamic axis 'batch' \(input 'image', axis 0\) to 2; compute sizes from x.shape",
        ),
        (models.BranchOnValue(), r"cannot follow the model at models.py:\d+ \(forward\).*torch.where instead of if"),
        (models.Outer(models.Svd()), r"operator 'aten._linalg_svd' in module 'inner' has no ONNX form; replace it"),
    ],
)
def test_model_that_cannot_be_exported_is_refused(model: nn.Module, message: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=message):
        to_onnx(model, models.image(), models.BATCH, ["y"], tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir()), "no file is left"


def test_opset_that_is_too_old_is_refused_not_raised_silently(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="opset 17 cannot express this model, the exporter needs opset 18; set"):
        to_onnx(models.Convolution(), models.image(), models.BATCH, ["logits"], tmp_path / "model.onnx", opset=17)


def test_newer_opset(tmp_path: Path) -> None:
    exported = to_onnx(
        models.Convolution(), models.image(), models.BATCH, ["logits"], tmp_path / "model.onnx", opset=20
    )
    assert exported.opset == 20


def test_axes_that_are_always_equal_need_one_name(tmp_path: Path) -> None:
    class Square(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x + x.T).sum(1)

    with pytest.raises(UnsupportedError, match=r"'rows' and 'columns' always have the same size.*give them one name"):
        to_onnx(Square(), {"x": torch.ones(3, 3)}, {"x": {0: "rows", 1: "columns"}}, ["y"], tmp_path / "model.onnx")


def test_number_of_output_names(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"output_names: found \['a', 'b'\], but the model returns 1 tensors"):
        to_onnx(models.Convolution(), models.image(), models.BATCH, ["a", "b"], tmp_path / "model.onnx")


def test_example_of_one_sample(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dynamic axis 0 \('batch'\) has size 1.*Give an example of 2 or more"):
        to_onnx(models.Convolution(), models.image(batch=1), models.BATCH, ["logits"], tmp_path / "model.onnx")


def test_dynamic_axes_of_no_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'picture' is not an input; inputs: image"):
        to_onnx(models.Convolution(), models.image(), {"picture": {0: "batch"}}, ["logits"], tmp_path / "model.onnx")
    with pytest.raises(InputError, match=r"axis 4 \('depth'\) is not in 0..3"):
        to_onnx(models.Convolution(), models.image(), {"image": {4: "depth"}}, ["logits"], tmp_path / "model.onnx")


def test_model_that_refuses_its_example(tmp_path: Path) -> None:
    wrong = {"image": torch.ones(2, 4, 8, 8)}
    with pytest.raises(
        InputError, match=r"fails on its example inputs \{'image': \(2, 4, 8, 8\)\}: RuntimeError: .*channels"
    ):
        to_onnx(models.Convolution(), wrong, models.BATCH, ["logits"], tmp_path / "model.onnx")


def test_nan_weight_is_refused(tmp_path: Path) -> None:
    model = models.Convolution()
    with torch.no_grad():
        model.head.weight[0, :2] = torch.nan
    with pytest.raises(QualityError, match=r"'head.weight': 2 of 20 values are NaN or Inf"):
        to_onnx(model, models.image(), models.BATCH, ["logits"], tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_reference_runs_without_the_models_code(tmp_path: Path) -> None:
    model = models.Attention().train()
    path = tmp_path / "reference.program"
    inputs, outputs = save_reference(model, TEXT, TEXT_AXES, path, ["logits"])
    assert [spec.name for spec in inputs] == ["ids", "mask"]
    assert outputs == (TensorSpec("logits", "float32", ("batch", 2)),)
    assert b"models.py" not in path.read_bytes()
    one = {name: tensor[:1, :3] for name, tensor in TEXT.items()}
    [found] = read_program(path, list(TEXT))(*one.values())
    torch.testing.assert_close(found, model.eval()(one["mask"], one["ids"]))
