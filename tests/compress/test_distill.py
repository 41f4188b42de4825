"""Distillation on a problem of 2 classes and 4 inputs; losses against formulas of scipy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.metrics import Accuracy
from compress import training
from compress.checkpoint import weights_hash
from compress.distill import Distill, kd_loss
from compress.distill.answers import as_logits
from compress.evaluate import evaluate
from compress.step import StepContext
from compress.training import Schedule
from compress.training.mixup import check_mixable, mixed
from compress.workload import Batches, TensorBatches, Workload
from export.errors import InputError, QualityError, UnsupportedError
from export.progress import Track, silent

T = TypeVar("T")


class Network(nn.Module):
    """Batch normalisation and dropout, so that statistics and random numbers matter."""

    def __init__(self, seed: int, outputs: int = 2) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def samples(seed: int = 0, count: int = 60) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return x, (x.sum(1) > 0).long()


def noise(inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    return {"x": inputs["x"] + 0.1 * torch.randn(inputs["x"].shape, generator=generator)}


def tensor_batches(seed: int = 0, **fields: Any) -> TensorBatches:
    x, target = samples(seed)
    return TensorBatches({"x": x}, target, batch_size=8, **fields)


def workload(train: Batches | None = None, **fields: Any) -> Workload:
    defaults: dict[str, Any] = {
        "model": Network(0),
        "example_inputs": {"x": torch.ones(2, 4)},
        "dynamic_axes": {"x": {0: "batch"}},
        "train": tensor_batches(shuffle=True, transform=noise) if train is None else train,
        "evaluation": tensor_batches(1),
        "validation": tensor_batches(2),
        "loss": functional.cross_entropy,
        "metric": Accuracy(),
    }
    return Workload(**defaults | fields)


def context(
    folder: Path, work: Workload | None = None, track: Track = silent, teacher: nn.Module | None = None
) -> StepContext:
    folder.mkdir(exist_ok=True)
    teacher = Network(0).eval() if teacher is None else teacher
    work = workload() if work is None else work
    return StepContext(work, teacher, folder, folder, seed=3, speedup=lambda model, target: 1.0, track=track)


class MeanSquare:
    """A metric of regression: the negative mean square."""

    name, higher_is_better, classifies = "mean_square", False, False

    def statistics(self, outputs: np.ndarray, target: np.ndarray) -> np.ndarray:
        return (outputs.reshape(len(target), -1).mean(1, keepdims=True) - target[:, None]) ** 2

    def value(self, statistics: np.ndarray) -> float:
        return float(statistics.mean())


class Interrupting:
    """A Track that is interrupted (Ctrl-C) before the batch of this number, counted over all epochs."""

    def __init__(self, before: int) -> None:
        self.before, self.seen = before, 0

    def __call__(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        for item in items:
            if self.seen == self.before:
                raise KeyboardInterrupt
            self.seen += 1
            yield item


def test_kd_loss_is_the_formula_of_hinton() -> None:
    student, teacher, temperature = np.array([[1.0, 2, -1], [0, 0, 3]]), np.array([[2.0, 1, 0], [1, -1, 1]]), 4.0
    p = softmax(teacher / temperature, axis=1)
    divergence = (p * (log_softmax(teacher / temperature, axis=1) - log_softmax(student / temperature, axis=1))).sum(1)
    expected = temperature**2 * divergence.mean()
    assert kd_loss(torch.tensor(student), torch.tensor(teacher), temperature).item() == pytest.approx(
        expected, rel=1e-12
    )


def test_kd_loss_of_equal_logits_is_zero_with_zero_gradient() -> None:
    logits = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    loss = kd_loss(logits, logits.detach(), 2.0)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert logits.grad is not None and logits.grad.abs().max() < 1e-12


def test_kd_loss_of_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"student logits have shape \(2, 3\), teacher logits \(2, 4\)"):
        kd_loss(torch.ones(2, 3), torch.ones(2, 4), 1.0)


def test_single_logit_is_two_classes() -> None:
    logit = torch.tensor([[0.5], [-2.0]])
    expected = torch.stack([1 - torch.sigmoid(logit[:, 0]), torch.sigmoid(logit[:, 0])], dim=1)
    torch.testing.assert_close(as_logits(logit).softmax(1), expected)
    torch.testing.assert_close(as_logits(logit[:, 0]).softmax(1), expected)
    assert as_logits(torch.ones(2, 3)).shape == (2, 3)


def test_schedule_rises_linearly_and_falls_as_a_cosine() -> None:
    schedule = Schedule(peak=0.4, epochs=5, warmup_epochs=1)
    found = [schedule.at(epoch) for epoch in (0, 0.25, 1, 3, 5)]
    assert found == pytest.approx([0, 0.1, 0.4, 0.2, 0])


def test_first_step_is_sgd_on_the_weighted_sum(tmp_path: Path) -> None:
    """One batch, one epoch, plain SGD: the new weights are worked out from the formula by hand."""
    x, target = samples(count=8)
    work = workload(TensorBatches({"x": x}, target, batch_size=8))
    student, teacher = nn.Linear(4, 2), nn.Linear(4, 2).eval()
    step = Distill(1, 0.1, 2.0, 0.75, momentum=0, weight_decay=0, gradient_clip=None, precision="fp32")
    w, b = (p.detach().double().numpy().copy() for p in student.parameters())
    z, t = x.numpy() @ w.T + b, teacher(x).detach().double().numpy()
    # d/dz of T^2 KL is T (softmax(z/T) - softmax(t/T)); of cross entropy softmax(z) - one_hot; both over the batch
    one_hot = np.eye(2)[target.numpy()]
    dz = 0.75 * 2.0 * (softmax(z / 2.0, 1) - softmax(t / 2.0, 1)) + 0.25 * (softmax(z, 1) - one_hot)
    learning_rate = 0.1 * 0.5  # the cosine in the middle of the only step
    step.apply(student, context(tmp_path, work, teacher=teacher))
    np.testing.assert_allclose(student.weight.detach().numpy(), w - learning_rate * dz.T @ x.numpy() / 8, atol=1e-6)
    np.testing.assert_allclose(student.bias.detach().numpy(), b - learning_rate * dz.mean(0), atol=1e-6)


def test_gradient_clip_bounds_the_step(tmp_path: Path) -> None:
    student = nn.Linear(4, 2)
    before = torch.cat([p.detach().flatten().clone() for p in student.parameters()])
    work = workload(TensorBatches({"x": samples()[0] * 100}, samples()[1], batch_size=60))
    step = Distill(1, 0.1, teacher_weight=0, momentum=0, weight_decay=0, gradient_clip=0.5)
    step.apply(student, context(tmp_path, work))
    moved = torch.cat([p.detach().flatten() for p in student.parameters()]) - before
    assert moved.norm().item() == pytest.approx(0.05 * 0.5, rel=1e-4)


def test_student_learns_and_the_report_is_told(tmp_path: Path) -> None:
    teacher = Network(0)
    Distill(8, 0.1, teacher_weight=0).apply(teacher, context(tmp_path / "teacher"))
    taught = weights_hash(teacher)
    told: list[str] = []

    def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        told.append(f"{description} ({total})")
        return silent(items, description, total)

    student = Network(1)
    result = Distill(6, 0.1, warmup_epochs=0.5).apply(student, context(tmp_path, track=track, teacher=teacher))
    facts = json.loads(json.dumps(result.facts))
    assert facts["validation"] >= 0.85 > facts["validation_before"]
    assert [epoch["epoch"] for epoch in facts["epochs"]] == [1, 2, 3, 4, 5, 6]
    assert facts["epochs"][-1]["loss"] < facts["epochs"][0]["loss"]
    assert facts["validation"] == facts["epochs"][-1]["validation"], "the last epoch is kept"
    assert facts["samples_per_s"] > 0 and facts["validation_metric"] == "accuracy"
    assert told == [f"distill: epoch {epoch} of 6 (8)" for epoch in range(1, 7)]
    assert weights_hash(teacher) == taught, "the teacher is not changed"
    assert not result.model.training
    assert Distill().restore(student, tmp_path) is student


def loader() -> DataLoader[Any]:
    x, target = samples()

    def collate(rows: list[tuple[Tensor, Tensor]]) -> tuple[dict[str, Tensor], Tensor]:
        return {"x": torch.stack([row[0] for row in rows])}, torch.stack([row[1] for row in rows])

    return DataLoader(TensorDataset(x, target), batch_size=8, shuffle=True, collate_fn=collate)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("before", [0, 3, 8, 13, 23])
@pytest.mark.parametrize(("data", "mixup"), [("tensors", 0.0), ("loader", 0.5)])
def test_interrupted_training_ends_bit_equal(
    before: int, optimizer: Any, data: str, mixup: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3 epochs of 8 steps, stopped before the step `before`; a checkpoint after every step."""
    monkeypatch.setattr(training, "CHECKPOINT_S", -1.0)
    step = Distill(3, 0.05, teacher_weight=1.0, optimizer=optimizer, warmup_epochs=1, mixup=mixup)

    def work() -> Workload:
        return workload(loader() if data == "loader" else None)

    whole = step.apply(Network(1), context(tmp_path / "whole", work()))
    with pytest.raises(KeyboardInterrupt):
        step.apply(Network(1), context(tmp_path / "cut", work(), Interrupting(before)))
    torch.manual_seed(99)
    resumed = step.apply(Network(1), context(tmp_path / "cut", work()))
    assert weights_hash(resumed.model) == weights_hash(whole.model)
    assert resumed.facts["epochs"] == whole.facts["epochs"]


def test_resumed_from_the_last_whole_epoch_without_the_minute(tmp_path: Path) -> None:
    step = Distill(2, 0.05)
    whole = step.apply(Network(1), context(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        step.apply(Network(1), context(tmp_path / "cut", track=Interrupting(13)))
    counted = Interrupting(-1)
    resumed = step.apply(Network(1), context(tmp_path / "cut", track=counted))
    assert weights_hash(resumed.model) == weights_hash(whole.model)
    assert counted.seen == 8, "only the second epoch is trained again"


def test_seed_decides(tmp_path: Path) -> None:
    step = Distill(1, 0.05)
    hashes = [weights_hash(step.apply(Network(1), context(tmp_path / name)).model) for name in ("a", "b")]
    assert hashes[0] == hashes[1]


def test_batches_without_a_length(tmp_path: Path) -> None:
    class Stream:
        def __iter__(self) -> Iterator[Any]:
            return iter(tensor_batches())

    result = Distill(1, 0.05).apply(Network(1), context(tmp_path, workload(Stream())))
    assert result.facts["epochs"][0]["epoch"] == 1


def test_binary_logit_is_taught(tmp_path: Path) -> None:
    def loss(outputs: Tensor, target: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(outputs[:, 0], target.float())

    teacher = Network(0, outputs=1).eval()
    result = Distill(3, 0.1).apply(Network(1, outputs=1), context(tmp_path, workload(loss=loss), teacher=teacher))
    assert result.facts["epochs"][-1]["loss"] < result.facts["epochs"][0]["loss"]


def test_loss_that_is_nan(tmp_path: Path) -> None:
    train = tensor_batches()
    train.inputs["x"][20] = torch.nan
    with pytest.raises(
        QualityError, match=r"the loss is nan at epoch 1, step 3 of 8; lower learning_rate \(its peak is 0.05\)"
    ):
        Distill(1, 0.05).apply(Network(1), context(tmp_path, workload(train)))


def test_outputs_that_cannot_be_taught(tmp_path: Path) -> None:
    class Pixels(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[:, :, None]

    with pytest.raises(UnsupportedError, match=r"first output has shape \(2, 2, 1\); .*Set teacher_weight to 0"):
        Distill().apply(Pixels(4, 2), context(tmp_path, workload(metric=MeanSquare()), teacher=Pixels(4, 2)))
    with pytest.raises(UnsupportedError, match=r"\(2, 1\); .*one logit a sample under a metric that classifies"):
        Distill().apply(nn.Linear(4, 1), context(tmp_path, workload(metric=MeanSquare()), teacher=nn.Linear(4, 1)))
    with pytest.raises(UnsupportedError, match=r"student's first output has shape \(2, 3\), the teacher's \(2, 2\)"):
        Distill().apply(nn.Linear(4, 3), context(tmp_path))


def test_nothing_to_train(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="no parameter of the model requires a gradient; unfreeze what is to be trained"
    ):
        Distill().apply(Network(1).requires_grad_(False), context(tmp_path))
    with pytest.raises(InputError, match="train: there are no batches to learn from; give at least one"):
        Distill().apply(Network(1), context(tmp_path, workload(train=[])))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", 0, "epochs must be 1 or more, found 0"),
        ("learning_rate", 0, "learning_rate must be above 0 and at most 10, found 0"),
        ("temperature", -1, "temperature must be above 0 and at most 100, found -1"),
        ("teacher_weight", 1.5, "teacher_weight must be from 0 to 1, found 1.5"),
        ("optimizer", "lion", "optimizer must be 'sgd' or 'adamw', found 'lion'"),
        ("momentum", 1, "momentum must be at least 0 and below 1, found 1"),
        ("weight_decay", -1, "weight_decay must be from 0 to 1, found -1"),
        ("gradient_clip", 0, "gradient_clip must be above 0 or null, found 0"),
        ("dkd_alpha", -1, "dkd_alpha must be 0 or more, found -1"),
        ("dkd_beta", -1, "dkd_beta must be 0 or more, found -1"),
        ("hint_weight", -1, "hint_weight must be 0 or more, found -1"),
        ("mixup", 0.6, "mixup must be from 0 to 0.5, found 0.6"),
        ("accumulate", 0, "accumulate must be 1 or more, found 0"),
        ("warmup_epochs", 10, r"warmup_epochs must be at least 0 and below epochs \(10\), found 10"),
    ],
)
def test_impossible_values(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Distill(**{field: value})  # type: ignore[arg-type]


def test_fields_that_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="cache_teacher keeps logits only, and hints: features needs the teacher's in"):
        Distill(cache_teacher=True, hints="features")
    with pytest.raises(ValueError, match="control: true compares with training without the teacher, and teacher_weigh"):
        Distill(control=True, teacher_weight=0)
    with pytest.raises(ValueError, match=r"set teacher_weight: 1 and loss: kd, found 0.9 and kd"):
        Distill(mixup=0.5)
    with pytest.raises(ValueError, match=r"set teacher_weight: 1 and loss: kd, found 1 and dkd"):
        Distill(mixup=0.5, teacher_weight=1.0, loss="dkd")


def test_mixup_takes_one_share_of_one_other_sample_for_all_inputs() -> None:
    """One input of sample i is its unit vector, which tells who was mixed in and how much; the other is i all over."""
    samples, most = 50, 0.3
    target = torch.arange(samples)
    plain = {"who": torch.eye(samples), "image": torch.arange(samples).double().reshape(-1, 1, 1).expand(-1, 2, 3)}
    torch.manual_seed(0)
    inputs, same_target = mixed((plain, target), most)
    own = inputs["who"].diagonal()
    rest = inputs["who"] - torch.diag(own)
    other = torch.where(own == 1, target, rest.argmax(1))
    assert same_target is target
    assert (own >= 1 - most).all() and own.min() < 1 - 0.9 * most, "shares fill the range from 0 to most"
    torch.testing.assert_close(rest.sum(1), 1 - own)
    torch.testing.assert_close(rest.amax(1), 1 - own)
    expected = own.double() * target + (1 - own.double()) * other
    torch.testing.assert_close(inputs["image"][:, 1, 2], expected, rtol=1e-6, atol=1e-6)


def test_mixup_is_what_the_teacher_is_asked(tmp_path: Path) -> None:
    asked: list[Tensor] = []
    teacher = Network(0).eval()
    teacher.register_forward_pre_hook(lambda module, args, named: asked.append(named["x"]), with_kwargs=True)
    step = Distill(1, 1e-9, teacher_weight=1.0, mixup=0.5)
    step.apply(Network(1), context(tmp_path, workload(tensor_batches()), teacher=teacher))
    known, of_training = samples()[0], [inputs for inputs in asked if len(inputs) == 8]
    assert of_training and not any(torch.isin(inputs, known).all() for inputs in of_training[-7:])


def test_mixup_of_whole_numbers() -> None:
    inputs = {"x": torch.ones(2, 4), "ids": torch.ones(2, 4, dtype=torch.int64)}
    with pytest.raises(InputError, match=r"and ids \(int64\) has nothing there; leave mixup out"):
        check_mixable(inputs)


def test_control_is_the_same_training_without_the_teacher(tmp_path: Path) -> None:
    teacher = Network(0)
    Distill(8, 0.1, teacher_weight=0).apply(teacher, context(tmp_path / "teacher"))
    step = Distill(2, 0.05, control=True)
    told = step.apply(Network(1), context(tmp_path / "both", teacher=teacher)).facts
    alone = Distill(2, 0.05, teacher_weight=0).apply(Network(1), context(tmp_path / "alone", teacher=teacher)).facts
    distilled = Distill(2, 0.05).apply(Network(1), context(tmp_path / "distilled", teacher=teacher))
    assert told["validation"] == distilled.facts["validation"]
    assert told["control"]["validation"] == alone["validation"]
    best = Accuracy().value(evaluate(teacher, tensor_batches(2), Accuracy()))
    assert told["teacher_validation"] == best
    gain = told["validation"] - alone["validation"]
    assert told["gain_over_control"] == pytest.approx(gain)
    assert told["gap_recovered"] == pytest.approx(gain / (best - alone["validation"]))


def test_no_gap_nothing_recovered(tmp_path: Path) -> None:
    """The student is the teacher, and a learning rate of almost zero leaves it so."""
    step = Distill(1, 1e-9, control=True)
    same = nn.Linear(4, 2).eval()
    told = step.apply(same, context(tmp_path, teacher=same)).facts
    assert told["gain_over_control"] == 0
    assert told["gap_recovered"] is None


def test_interrupted_control_ends_bit_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """2 epochs of 8 steps each: 20 is in the control's first."""
    monkeypatch.setattr(training, "CHECKPOINT_S", -1.0)
    step = Distill(2, 0.05, control=True)
    whole = step.apply(Network(1), context(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        step.apply(Network(1), context(tmp_path / "cut", track=Interrupting(20)))
    resumed = step.apply(Network(1), context(tmp_path / "cut"))
    assert resumed.facts["control"]["validation"] == whole.facts["control"]["validation"]
    assert resumed.facts["epochs"] == whole.facts["epochs"]
    assert weights_hash(resumed.model) == weights_hash(whole.model)


def test_accumulated_batches_make_the_step_of_one_large_batch(tmp_path: Path) -> None:
    """60 samples by 8: steps of 24, 24 and 12 samples, the last batch of 4 weighing half of a whole one."""

    def trained(size: int, accumulate: int) -> nn.Linear:
        torch.manual_seed(0)
        student = nn.Linear(4, 2)
        x, target = samples()
        work = workload(TensorBatches({"x": x}, target, batch_size=size, shuffle=True))
        result = Distill(2, 0.1, accumulate=accumulate, precision="fp32").apply(
            student, context(tmp_path / f"{size}", work)
        )
        assert result.facts["samples_per_s"] > 0
        return student

    few, many = trained(24, 1), trained(8, 3)
    torch.testing.assert_close(many.weight, few.weight, rtol=1e-5, atol=1e-6)


def test_precision_is_what_the_machine_does_natively(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for features in ("avx2", "bf16"):
        monkeypatch.setattr("compress.distill.instruction_sets", lambda features=features: frozenset({features}))
        student = nn.Linear(4, 2)
        with torch.no_grad():
            student.weight.fill_(0.3)
        facts = Distill(1, 0.1).apply(student, context(tmp_path / features)).facts
        found[facts["precision"]] = student.weight.detach()
        assert student.weight.dtype == torch.float32
    assert found.keys() == {"fp32", "bf16"}
    assert 0 < (found["fp32"] - found["bf16"]).abs().max() < 0.01


def test_kept_answers_of_the_teacher_are_used_again(tmp_path: Path) -> None:
    step, kept = Distill(2, 0.05, cache_teacher=True), tmp_path / "kept"
    teacher = Network(0).eval()
    first = step.apply(Network(1), replace(context(tmp_path / "first", teacher=teacher), kept=kept))
    files = {file: file.stat().st_mtime_ns for file in kept.rglob("*.npy")}
    assert len(files) == 16, "two passes of 8 batches, each augmented anew"
    again = step.apply(Network(1), replace(context(tmp_path / "again", teacher=teacher), kept=kept))
    assert {file: file.stat().st_mtime_ns for file in kept.rglob("*.npy")} == files
    assert weights_hash(again.model) == weights_hash(first.model)


def test_decoupled_loss_trains(tmp_path: Path) -> None:
    facts = Distill(3, 0.05, loss="dkd").apply(Network(1), context(tmp_path)).facts
    assert facts["epochs"][-1]["loss"] < facts["epochs"][0]["loss"]


def test_convolutions_resume_bit_equal_and_come_back_in_their_usual_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are trained channels last; 2 epochs of 8 steps, stopped before the 11th, with projections beside them."""
    monkeypatch.setattr(training, "CHECKPOINT_S", -1.0)
    x, target = samples()
    batches = TensorBatches({"input": x.reshape(60, 1, 2, 2)}, target, batch_size=8, shuffle=True)
    work = workload(batches, validation=batches, example_inputs={"input": x[:2].reshape(2, 1, 2, 2)})

    def network(width: int) -> nn.Sequential:
        torch.manual_seed(width)
        norm = nn.BatchNorm2d(width)
        return nn.Sequential(nn.Conv2d(1, width, 2, padding=1), norm, nn.Conv2d(width, 2, 3), nn.Flatten())

    step, teacher = Distill(2, 0.05, hints="features"), network(6).eval()
    whole = step.apply(network(4), context(tmp_path / "whole", work, teacher=teacher)).model
    with pytest.raises(KeyboardInterrupt):
        step.apply(network(4), context(tmp_path / "cut", work, Interrupting(10), teacher))
    resumed = step.apply(network(4), context(tmp_path / "cut", work, teacher=teacher)).model
    assert weights_hash(resumed) == weights_hash(whole)
    assert all(parameter.is_contiguous() for parameter in resumed.parameters())


def test_evaluate_gives_the_rows_of_every_sample_and_leaves_the_mode() -> None:
    model, batches = Network(0).train(), tensor_batches()
    rows = evaluate(model, batches, Accuracy())
    x, target = samples()
    assert rows.shape == (60, 3)
    assert model.training
    model.eval()
    np.testing.assert_array_equal(rows[:, 0], model(x).argmax(1).numpy())
    np.testing.assert_array_equal(rows[:, 1], target.numpy())


def test_evaluate_names_the_batch_of_a_nan() -> None:
    batches = tensor_batches()
    batches.inputs["x"][10] = torch.nan
    with pytest.raises(
        QualityError, match=r"the torch model gives NaN in batch 2 \(2 of 16 values\); check this batch"
    ):
        evaluate(Network(0), batches, Accuracy())


def test_evaluate_without_batches() -> None:
    with pytest.raises(InputError, match="accuracy: there are no batches to measure on; give at least one"):
        evaluate(Network(0), [], Accuracy())
