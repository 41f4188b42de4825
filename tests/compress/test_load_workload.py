from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compress.load_workload import load_workload
from compress.recipe import load_recipe
from compress.workload import TensorBatches, Workload
from export.errors import EnvironmentFailure, InputError

GOOD = """
import torch
from torch import nn
from compress import Accuracy, TensorBatches, Workload

def made(width: int = 4, **changes):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5))
    def split(samples, seed):
        g = torch.Generator().manual_seed(seed)
        return {"image": torch.randn(samples, 3, 8, 8, generator=g)}, torch.randint(0, 5, (samples,), generator=g)
    fields = dict(
        model=model, example_inputs={"image": torch.randn(2, 3, 8, 8)}, dynamic_axes={"image": {0: "batch"}},
        train=TensorBatches(*split(100, 1), batch_size=10, shuffle=True),
        evaluation=TensorBatches(*split(30, 2), batch_size=10),
        loss=nn.functional.cross_entropy, metric=Accuracy(),
    )
    return Workload(**(fields | changes))

def tiny():
    return made()
"""


def load(folder: Path, code: str, function: str = "tiny", arguments: str = "{}") -> Workload:
    (folder / "workload.py").write_text(code)
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        f"name: t\nworkload: workload.py:{function}\narguments: {arguments}\nsteps: []\ntargets: [onnxruntime_mobile]\n"
    )
    return load_workload(load_recipe(recipe))


def test_a_tenth_of_training_serves_as_validation_and_is_not_trained_on(tmp_path: Path) -> None:
    workload = load(tmp_path, GOOD)
    assert isinstance(workload.train, TensorBatches)
    assert isinstance(workload.validation, TensorBatches)
    assert (workload.train.samples, workload.validation.samples) == (90, 10)
    assert not workload.validation.shuffle
    trained = {row.numpy().tobytes() for row in workload.train.inputs["image"]}
    assert not any(row.numpy().tobytes() in trained for row in workload.validation.inputs["image"])


def test_the_workloads_folder_is_importable_while_it_loads(tmp_path: Path) -> None:
    (tmp_path / "beside_the_workload.py").write_text("WIDTH = 6\n")
    workload = load(
        tmp_path, GOOD + "\nfrom beside_the_workload import WIDTH\ndef wide():\n    return made(WIDTH)\n", "wide"
    )
    assert next(workload.model.parameters()).shape[0] == 6


def test_a_function_imports_its_own_neighbours_and_not_an_earlier_workloads(tmp_path: Path) -> None:
    code = GOOD + "\ndef wide():\n    from neighbour import WIDTH\n    return made(WIDTH)\n"
    for width in (5, 7):
        folder = tmp_path / str(width)
        folder.mkdir()
        (folder / "neighbour.py").write_text(f"WIDTH = {width}\n")
        assert next(load(folder, code, "wide").model.parameters()).shape[0] == width


TOKENS = """
import torch
from torch import nn
from compress import EntityF1, Perplexity, TensorBatches, TokenAccuracy, Workload

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")

def made(metric, labels=None):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(30, 8), nn.Linear(8, 5))
    def split(samples, seed):
        g = torch.Generator().manual_seed(seed)
        target = torch.randint(0, 5, (samples, 7), generator=g)
        target[:, 4:] = -100
        return {"input_ids": torch.randint(0, 30, (samples, 7), generator=g)}, target
    evaluation = split(30, 2)
    return Workload(
        model=model, example_inputs={"input_ids": evaluation[0]["input_ids"][:2]},
        dynamic_axes={"input_ids": {0: "batch", 1: "length"}},
        train=TensorBatches(*split(100, 1), batch_size=10),
        evaluation=TensorBatches(evaluation[0], evaluation[1] if labels is None else labels, batch_size=10),
        loss=lambda logits, target: nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten()), metric=metric,
    )
"""


@pytest.mark.parametrize("metric", ["TokenAccuracy()", "Perplexity()", "EntityF1(TAGS)"])
def test_a_metric_of_tokens_is_fine(tmp_path: Path, metric: str) -> None:
    workload = load(tmp_path, TOKENS + f"\ndef tiny():\n    return made({metric})\n")
    assert not workload.metric.classifies


OF_TOKENS = [
    ("made(TokenAccuracy(), torch.zeros(30, dtype=torch.long))", r"token_accuracy: expected logits \(batch, length, classes\) and a "
     r"target \(batch, length\), one label a token; found outputs \(10, 7, 5\) and target \(10,\)"),
    ("made(Perplexity(), torch.full((30, 7), 6))", r"perplexity: labels must be from 0 to 4 for the 5 classes .*; found 6"),
    ("made(EntityF1(TAGS[:3]))", r"entity_f1: expected logits \(batch, length, 3\), one for each of the metric's labels; found"),
]  # fmt: skip


@pytest.mark.parametrize(("workload", "message"), OF_TOKENS)
def test_what_does_not_fit_a_metric_of_tokens_is_one_sentence(tmp_path: Path, workload: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"^workload.py:tiny: on the first evaluation batch: {message}"):
        load(tmp_path, TOKENS + f"\ndef tiny():\n    return {workload}\n")


def test_a_metric_whose_library_is_missing_says_so_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.metrics.text.find_spec", lambda name: None)
    code = TOKENS.replace("nn.Linear(8, 5)", "nn.Flatten()").replace("import EntityF1", "import BLEU, EntityF1")
    code += "\ndef tiny():\n    return made(BLEU(('a',), str), torch.zeros(30, dtype=torch.long))\n"
    with pytest.raises(
        EnvironmentFailure, match=r"^workload.py:tiny: on the first evaluation batch: bleu: sacrebleu is not in"
    ):
        load(tmp_path, code)


WRONG = [
    ("import nonexistent_package\n", "tiny", r"importing it raised ModuleNotFoundError at workload.py:1: No module named"),
    ("def tiny(:\n", "tiny", r"importing it raised SyntaxError"),
    (GOOD, "tinny", r"no function 'tinny' in it; it defines made, tiny"),
    (GOOD + "\ndef tiny():\n    return 1 / 0\n", "tiny", r"calling it raised ZeroDivisionError at workload.py:\d+: division by zero"),
    (GOOD + "\ndef tiny():\n    return 5\n", "tiny", r"must return a compress.Workload, returned int"),
    (GOOD + "\ndef tiny():\n    return made(model=5)\n", "tiny", r"model must be a torch.nn.Module, found int"),
    (GOOD + "\ndef tiny():\n    return made(example_inputs={})\n", "tiny", r"example_inputs is empty"),
    (
        GOOD + "\ndef tiny():\n    return made(example_inputs={'image': torch.randn(1, 3, 8, 8)})\n",
        "tiny",
        r"example_inputs\['image'\] has a batch of 1; give 2 samples or more",
    ),
    (
        GOOD + "\ndef tiny():\n    return made(dynamic_axes={'img': {0: 'batch'}})\n",
        "tiny",
        r"dynamic_axes names 'img', which is not an input; inputs: image",
    ),
    (
        GOOD + "\ndef tiny():\n    return made(example_inputs={'image': torch.randn(2, 4, 8, 8)})\n",
        "tiny",
        r"running the model on example_inputs raised RuntimeError",
    ),
    (GOOD + "\ndef tiny():\n    return made(output_names=('a', 'b'))\n", "tiny", r"the model gives 1 output tensors, output_names has 2"),
    (GOOD + "\ndef tiny():\n    return made(metric=len)\n", "tiny", r"metric has no 'statistics'"),
    (GOOD + "\ndef tiny():\n    return made(evaluation=iter([]))\n", "tiny", r"evaluation must be iterable again and again"),
    (GOOD + "\ndef tiny():\n    return made(evaluation=[])\n", "tiny", r"evaluation holds no batch"),
    (GOOD + "\ndef tiny():\n    return made(calibration=[])\n", "tiny", r"calibration holds no batch"),
    (GOOD + "\ndef tiny():\n    return made(train=[torch.zeros(2)])\n", "tiny", r"train must give \(inputs by name, target\) pairs"),
    (
        GOOD + "\ndef tiny():\n    return made(train=[({'x': torch.zeros(2)}, torch.zeros(2))])\n",
        "tiny",
        r"train gives inputs \['x'\], example_inputs has \['image'\]",
    ),
    (
        GOOD + "\ndef tiny():\n    return made(evaluation=[({'image': torch.zeros(2, 3, 8, 8)}, torch.zeros(3))])\n",
        "tiny",
        r"inputs and target of a batch must have the same number of samples, found {'image': 2, 'target': 3}",
    ),
    (
        GOOD + "\ndef tiny():\n    return made(evaluation=[({'image': torch.zeros(2, 3, 8, 8).double()}, torch.zeros(2))])\n",
        "tiny",
        r"evaluation: input 'image' is torch.float64 with 4 axes, example_inputs has torch.float32",
    ),
    (
        GOOD + "\ndef tiny():\n    w = made()\n    return made(train=list(w.train))\n",
        "tiny",
        r"validation is None and train is a list, which cannot be split",
    ),
    (
        GOOD
        + "\nclass M(Accuracy):\n    def statistics(self, o, t):\n        return o.mean()\n"
        + "\ndef tiny():\n    return made(metric=M())\n",
        "tiny",
        r"metric.statistics must give shape \(10, k\), one row a sample; gave \(\). Add up the figures",
    ),
    (
        GOOD
        + "\nclass M(Accuracy):\n    def statistics(self, o, t):\n        return super().statistics(o, t).astype(int)\n"
        + "\ndef tiny():\n    return made(metric=M())\n",
        "tiny",
        r"metric.statistics must give floats, gave int64; add .astype\(numpy.float64\)",
    ),
    (
        GOOD
        + "\nclass M(Accuracy):\n    def value(self, rows):\n        return rows[:, 9].mean()\n"
        + "\ndef tiny():\n    return made(metric=M())\n",
        "tiny",
        r"computing the metric's value on the first evaluation batch raised IndexError at workload.py:\d+: index 9",
    ),
    (
        GOOD
        + "\nclass M(Accuracy):\n    def statistics(self, o, t):\n        return super().statistics(o, t)[:, :1]\n"
        + "\ndef tiny():\n    return made(metric=M())\n",
        "tiny",
        r"keeps the predicted class in column 0 of its statistics and the true class in column 1; gave one column",
    ),
    (
        GOOD
        + "\nclass M(Accuracy):\n    def statistics(self, o, t):\n        return super().statistics(o, t) + 1.5\n"
        + "\ndef tiny():\n    return made(metric=M())\n",
        "tiny",
        r"column 2 of the statistics .* is the probability of the predicted class, from 0 to 1; found 1.* Keep other figures",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("code", "function", "message"), WRONG)
def test_what_is_wrong_with_a_workload_is_one_sentence(tmp_path: Path, code: str, function: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        load(tmp_path, code, function)
    assert "\n" not in str(refused.value) or "RuntimeError" in message


def test_arguments_that_do_not_fit_are_told_with_the_signature(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"the recipe's arguments do not fit: got an unexpected keyword argument 'width'; it takes \(\)",
    ):
        load(tmp_path, GOOD, arguments="{width: 3}")


def test_a_missing_workload_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("name: t\nworkload: other.py:f\nsteps: []\ntargets: [onnxruntime_mobile]\n")
    with pytest.raises(InputError, match=r"no file 'other.py' beside the recipe"):
        load_workload(load_recipe(tmp_path / "r.yaml"))


def test_batches_resume_in_the_order_of_an_uninterrupted_run() -> None:
    batches = TensorBatches({"x": torch.arange(20.0)}, torch.arange(20), batch_size=6, shuffle=True, seed=4)
    passes = [torch.cat([target for _, target in batches]) for _ in range(3)]
    assert not torch.equal(passes[0], passes[1])
    assert sorted(passes[2].tolist()) == list(range(20))
    resumed = torch.cat([target for _, target in batches.at_pass(2)])
    assert torch.equal(resumed, passes[2])


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(InputError, match=r"same number of samples, found {'x': 3, 'target': 2}"):
        TensorBatches({"x": torch.zeros(3)}, torch.zeros(2), batch_size=1)


def test_a_budget_for_classes_needs_a_metric_that_classifies(tmp_path: Path) -> None:
    (tmp_path / "workload.py").write_text(
        GOOD.replace("metric=Accuracy()", "metric=Accuracy(classifies=False, name='closeness')")
    )
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: t\nworkload: workload.py:tiny\nsteps: []\ntargets: [onnxruntime_mobile]\nbudget: {worst_class_drop: 0.1}\n"
    )
    with pytest.raises(
        InputError,
        match=r"recipe.yaml: budget.worst_class_drop: metric 'closeness' of workload.py:tiny does not classify; remove the line",
    ):
        load_workload(load_recipe(recipe))
