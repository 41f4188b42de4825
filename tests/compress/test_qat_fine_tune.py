"""Fine-tuning a quantized residual network whose weights are left three values: -1, 0 and 1 step of their channel."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from benchmarks.metrics import Accuracy
from compress.evaluate import evaluate
from compress.pipeline import run
from compress.qat.fine_tune import FineTuned, fine_tune
from compress.qat.network import QuantizedNetwork
from compress.qat.settings import Qat
from compress.quantize.model import quantize_model
from compress.recipe import load_recipe
from compress.workload import TensorBatches, Workload, to_numpy
from export.errors import InputError, UnsupportedError
from export.model import OnnxModel
from export.to_onnx import to_onnx
from targets import TARGETS, Scheme, target_class
from tests.compress import tiny

SCHEME = Scheme("int8", "int8", "onnxruntime", reduce_range=True)
SETTINGS = Qat(epochs=4, learning_rate=3e-3)


class Residual(nn.Module):
    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.stem, self.norm1 = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.inner, self.norm2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, classes)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.relu(self.norm1(self.stem(image)))
        x = torch.relu(x + self.norm2(self.inner(x)))
        return self.head(x.mean((2, 3)))


def _stripes(samples: int, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """Images of noisy rows or columns, by class."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 2, (samples,), generator=generator)
    lines = torch.randn(samples, 1, 12, 1, generator=generator).expand(-1, -1, -1, 12)
    noise = 1.2 * torch.randn(samples, 1, 12, 12, generator=generator)
    image = torch.where(target.view(-1, 1, 1, 1) == 0, lines, lines.transpose(2, 3)) + noise
    return {"image": image}, target


@dataclass(frozen=True)
class Planted:
    workload: Workload
    floats: OnnxModel
    quantized: OnnxModel
    folder: Path

    def tuned(self, settings: Qat = SETTINGS, name: str = "tuned") -> FineTuned:
        scratch = self.folder / f"scratch-{name}"
        scratch.mkdir()
        return fine_tune(
            self.quantized,
            self.floats,
            self.workload.model,
            self.workload,
            settings,
            seed=0,
            scratch=scratch,
            out=self.folder / f"{name}.onnx",
        )


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    torch.manual_seed(0)
    model, train = Residual(), TensorBatches(*_stripes(512, 1), batch_size=64, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(6):
        for inputs, target in train:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs["image"]), target).backward()
            optimizer.step()
    workload = Workload(
        model=model.eval(),
        example_inputs={"image": _stripes(2, 2)[0]["image"]},
        dynamic_axes={"image": {0: "batch"}},
        train=train,
        validation=TensorBatches(*_stripes(256, 3), batch_size=64),
        evaluation=TensorBatches(*_stripes(1000, 4), batch_size=100),
        loss=nn.functional.cross_entropy,
        metric=Accuracy(),
    )
    folder = tmp_path_factory.mktemp("planted")
    floats = to_onnx(model, workload.example_inputs, workload.dynamic_axes, ("logits",), folder / "float.onnx")
    calibration = [to_numpy(inputs) for inputs, _ in train]
    fine = quantize_model(floats, calibration, SCHEME, folder / "fine.onnx")
    onnx.save(_coarse(fine.proto()), folder / "coarse.onnx")
    return Planted(workload, floats, OnnxModel.read(folder / "coarse.onnx"), folder)


def _coarse(model: onnx.ModelProto) -> onnx.ModelProto:
    """Steps of weights, and of the biases that share them, made 63 times as long: 7 bits become 3 values."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            for name, factor in ((node.input[0], 1 / 63), (node.input[1], 63)):
                value = numpy_helper.to_array(constants[name])
                changed = np.round(value * factor) if factor < 1 else value * factor
                constants[name].CopyFrom(numpy_helper.from_array(changed.astype(value.dtype), name))
    return model


@pytest.fixture(scope="module")
def tuned(planted: Planted) -> FineTuned:
    return planted.tuned()


def _network(planted: Planted, model: OnnxModel) -> QuantizedNetwork:
    return QuantizedNetwork(model.proto(), planted.floats.proto())


def _right(planted: Planted, model: nn.Module) -> float:
    return Accuracy().value(evaluate(model, planted.workload.evaluation, Accuracy()))


def _initializers(model: OnnxModel) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in model.proto().graph.initializer}


def test_the_loss_goes_down_and_accuracy_comes_back(planted: Planted, tuned: FineTuned) -> None:
    original, before = _right(planted, planted.workload.model), _right(planted, _network(planted, planted.quantized))
    after = _right(planted, _network(planted, tuned.model))
    assert tuned.epochs[-1].loss < 0.7 * tuned.epochs[0].loss
    assert tuned.epochs[-1].validation > tuned.validation_before
    assert before < original - 0.04
    assert after > original - 0.5 * (original - before)


def test_the_graph_keeps_its_nodes_names_types_and_activation_scales(planted: Planted, tuned: FineTuned) -> None:
    before, after = planted.quantized.proto().graph, tuned.model.proto().graph
    assert after.node == before.node
    assert Counter(node.op_type for node in after.node)["QuantizeLinear"] >= 4
    old, new = _initializers(planted.quantized), _initializers(tuned.model)
    assert old.keys() == new.keys()
    changed = set[str]()
    for name, tensor in old.items():
        assert (tensor.data_type, tensor.dims) == (new[name].data_type, new[name].dims)
        if not np.array_equal(numpy_helper.to_array(tensor), numpy_helper.to_array(new[name])):
            changed.add(name)
    assert changed <= {each.constant for each in _network(planted, planted.quantized).trained}
    assert len(changed) >= 4  # of three weights and three biases; the head's 16 weights may keep their three values


def test_weights_keep_to_the_range_of_the_scheme(tuned: FineTuned) -> None:
    weights = [
        numpy_helper.to_array(t) for t in _initializers(tuned.model).values() if t.data_type == 3 and len(t.dims) > 1
    ]
    assert len(weights) == 3
    assert max(np.abs(weight.astype(int)).max() for weight in weights) == 1


@pytest.mark.parametrize("name", ["onnxruntime_mobile", "openvino"])
def test_the_runtime_is_as_accurate_as_torch(planted: Planted, tuned: FineTuned, name: str, tmp_path: Path) -> None:
    assert name in TARGETS
    target = target_class(name)()
    if reason := target.unavailable():
        pytest.skip(reason)
    engine = target.compile(tuned.model, SCHEME, tmp_path)
    right: list[np.ndarray] = []
    with target.load(engine, threads=1) as session:
        for inputs, labels in planted.workload.evaluation:
            right.append(session.run(to_numpy(inputs))["logits"].argmax(1) == labels.numpy())
    assert np.concatenate(right).mean() == pytest.approx(_right(planted, _network(planted, tuned.model)), abs=0.0011)


def test_an_interrupted_training_goes_on_to_the_same_weights(planted: Planted, tuned: FineTuned) -> None:
    """The batches of the third epoch break off; a second call resumes from the checkpoint of the second."""

    class Breaks:
        passes = 0

        def __len__(self) -> int:
            return len(planted.workload.train)  # type: ignore[arg-type]

        def __iter__(self):  # type: ignore[no-untyped-def]
            self.passes += 1
            if self.passes == 3:
                raise KeyboardInterrupt
            assert isinstance(planted.workload.train, TensorBatches)
            yield from planted.workload.train.at_pass(self.passes - (self.passes > 3) - 1)

    workload = replace(planted.workload, train=Breaks())
    broken = replace(planted, workload=workload, folder=planted.folder / "broken")
    (broken.folder / "scratch-again").mkdir(parents=True)
    arguments = (planted.quantized, planted.floats, workload.model, workload, SETTINGS)
    places = {"scratch": broken.folder / "scratch-again", "out": broken.folder / "again.onnx"}
    with pytest.raises(KeyboardInterrupt):
        fine_tune(*arguments, seed=0, **places)  # type: ignore[arg-type]
    done = fine_tune(*arguments, seed=0, **places)  # type: ignore[arg-type]
    assert [epoch.loss for epoch in done.epochs] == [epoch.loss for epoch in tuned.epochs]
    assert done.model.proto().graph == tuned.model.proto().graph


def test_the_task_alone_can_be_the_loss(planted: Planted) -> None:
    done = planted.tuned(Qat(epochs=2, learning_rate=3e-3, teacher_weight=0), "task")
    assert done.epochs[-1].loss < done.epochs[0].loss


def test_a_teacher_without_logits_is_refused(planted: Planted) -> None:
    class Map(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image

    with pytest.raises(
        UnsupportedError, match=r"qat: the original's first output has shape \(2, 1, 12, 12\); a teacher needs"
    ):
        replace(planted, workload=replace(planted.workload, model=Map())).tuned(name="map")


def test_a_model_without_known_weights_is_refused(planted: Planted, tmp_path: Path) -> None:
    class Plain(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image.mean((2, 3)) * 2

    plain = to_onnx(Plain(), planted.workload.example_inputs, {"image": {0: "batch"}}, ("logits",), tmp_path / "p.onnx")
    with pytest.raises(InputError, match="qat: the quantized model has no weight or bias that is known to be one"):
        replace(planted, quantized=plain, floats=plain).tuned(name="plain")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": 0}, "epochs must be 1 or more, found 0"),
        ({"learning_rate": 0.0}, r"learning_rate must be above 0 and at most 1, found 0\.0"),
        ({"warmup_epochs": 1.0}, r"warmup_epochs must be at least 0 and below epochs \(1\), found 1\.0"),
        ({"temperature": 0.0}, r"temperature must be above 0 and at most 100, found 0\.0"),
        ({"teacher_weight": 1.5}, r"teacher_weight must be from 0 to 1, found 1\.5"),
    ],
)
def test_settings_out_of_range_are_refused(fields: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Qat(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("qat", "message"),
    [
        (
            "{epoch: 2}",
            r"recipe.yaml:7: steps\[2\].quantize.qat: unknown key 'epoch'; known: epochs, .*Did you mean 'epochs'\?",
        ),
        ("{epochs: two}", r"recipe.yaml:7: steps\[2\].quantize.qat.epochs: must be a valid integer, found 'two'"),
        ("{epochs: 0}", r"recipe.yaml:7: steps\[2\].quantize.qat: epochs must be 1 or more, found 0"),
        ("true", r"recipe.yaml:7: steps\[2\].quantize.qat: expected keys \(epochs, .*\), found True"),
    ],
)
def test_mistakes_in_a_recipe_are_told_with_their_line(qat: str, message: str, tmp_path: Path) -> None:
    recipe = tiny.write_tiny(tmp_path, tiny.RECIPE.replace("calibration_samples: 120", f"qat: {qat}"))
    with pytest.raises(InputError, match=message):
        load_recipe(recipe)


def test_a_run_tries_the_fine_tuned_scheme_beside_the_others(tmp_path: Path) -> None:
    steps = "steps:\n  - quantize: {calibration_samples: 120, schemes: [int8], qat: {learning_rate: 1e-3}}\ntargets"
    before, _, rest = tiny.RECIPE.partition("steps:")
    recipe = tiny.write_tiny(tmp_path, before + steps + rest.partition("targets")[2])
    report = run(recipe, tmp_path / "run")
    tried = {row.scheme: row for row in report.rows if row.role == "tried"}
    assert tried.keys() == {"int8", "int8-qat"}
    assert tried["int8-qat"].validation is not None
    assert tried["int8-qat"].operators == tried["int8"].operators
    [facts] = (tmp_path / "run" / "stages").glob("quantize-*-int8-qat/qat.json")
    assert {"validation_before", "epochs"} <= json.loads(facts.read_text()).keys()
