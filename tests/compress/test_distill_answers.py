"""One row of logits for each answer that counts: a teacher of tokens, against formulas and losses worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.metrics import IGNORED
from compress.distill import Distill
from compress.distill.answers import answers, right_classes
from compress.distill.losses import dkd_loss, kd_loss
from compress.workload import TensorBatches, Workload
from export.errors import UnsupportedError
from tests.compress.test_distill import MeanSquare, context, workload

STUDENT = torch.tensor(
    [[[1.0, 2.0, -1.0], [0.0, 0.0, 3.0], [7.0, 7.0, 7.0]], [[2.0, 0.0, 1.0], [9.0, -9.0, 9.0], [-5.0, 0.0, 5.0]]],
    dtype=torch.float64,
)
TEACHER = torch.tensor(
    [[[2.0, 1.0, 0.0], [1.0, -1.0, 1.0], [0.0, 50.0, 0.0]], [[0.0, 1.0, 1.0], [1.0, 2.0, 3.0], [40.0, 0.0, 0.0]]],
    dtype=torch.float64,
)
TAGS = torch.tensor([[1, 2, IGNORED], [0, IGNORED, IGNORED]])
COUNTED = [(0, 0), (0, 1), (1, 0)]
"""Places of TAGS that are not ignored."""


class Tagger(nn.Module):
    """Three logits for each token, of which there are seven kinds."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(nn.Embedding(7, 6), nn.Linear(6, 3))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.layers(tokens)


class TokensRight:
    """Share of the counted tokens that are right: columns right and counted."""

    name, higher_is_better, classifies = "tokens", True, False

    def statistics(self, outputs: np.ndarray, target: np.ndarray) -> np.ndarray:
        counted = target != IGNORED
        right = (outputs.argmax(2) == target) & counted
        return np.stack([right.sum(1), counted.sum(1)], axis=1).astype(np.float64)

    def value(self, statistics: np.ndarray) -> float:
        return float(statistics[:, 0].sum() / statistics[:, 1].sum())


def token_loss(outputs: Tensor, target: Tensor) -> Tensor:
    return functional.cross_entropy(outputs.transpose(1, 2), target)


def tagged(samples: int = 40) -> TensorBatches:
    """The tag of a token is its number by 3; the last two places of each text do not count, and their tags would be wrong."""
    tokens = torch.randint(0, 7, (samples, 6), generator=torch.Generator().manual_seed(0))
    tags = tokens % 3
    tags[:, 4:] = IGNORED
    return TensorBatches({"tokens": tokens}, tags, batch_size=8)


def tagging(**fields: object) -> Workload:
    return workload(
        **{
            "model": Tagger(),
            "example_inputs": {"tokens": torch.ones(2, 6, dtype=torch.int64)},
            "dynamic_axes": {"tokens": {0: "batch", 1: "length"}},
            "train": tagged(),
            "validation": tagged(),
            "loss": token_loss,
            "metric": TokensRight(),
        }
        | fields  # type: ignore[arg-type]
    )


def test_the_loss_of_tokens_is_the_mean_over_those_that_count() -> None:
    """Hinton's formula, place by place."""
    temperature = 2.0
    divergences = []
    for place in COUNTED:
        student, teacher = STUDENT[place].numpy() / temperature, TEACHER[place].numpy() / temperature
        divergences.append((softmax(teacher) * (log_softmax(teacher) - log_softmax(student))).sum())
    found = kd_loss(answers(STUDENT, TAGS), answers(TEACHER, TAGS), temperature)
    assert found.item() == pytest.approx(temperature**2 * np.mean(divergences), rel=1e-12)


def test_what_is_ignored_gets_no_gradient() -> None:
    student = STUDENT.clone().requires_grad_()
    kd_loss(answers(student, TAGS), answers(TEACHER, TAGS), 1.0).backward()
    assert student.grad is not None
    moved = student.grad.abs().sum(2) > 0
    assert torch.equal(moved, TAGS != IGNORED)


def test_the_decoupled_loss_of_tokens_is_that_of_as_many_samples() -> None:
    rows = [torch.stack([logits[place] for place in COUNTED]) for logits in (STUDENT, TEACHER)]
    expected = dkd_loss(*rows, torch.tensor([1, 2, 0]), 2.0, 1.0, 8.0)
    right = right_classes(STUDENT, TAGS)
    found = dkd_loss(answers(STUDENT, TAGS), answers(TEACHER, TAGS), right, 2.0, 1.0, 8.0)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)


def test_a_batch_in_which_nothing_counts_teaches_nothing() -> None:
    student, nothing = STUDENT.clone().requires_grad_(), torch.full((2, 3), IGNORED)
    for loss in (
        kd_loss(answers(student, nothing), answers(TEACHER, nothing), 1.0),
        dkd_loss(answers(student, nothing), answers(TEACHER, nothing), right_classes(student, nothing), 1.0, 1.0, 8.0),
    ):
        loss.backward()
        assert loss.item() == 0 and student.grad is not None and not student.grad.any()


def test_a_sample_whose_class_is_the_ignored_number_is_still_a_sample() -> None:
    """Rows of samples are all counted: only labels of tokens can be ignored."""
    logits = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    assert torch.equal(answers(logits, torch.tensor([IGNORED, 0])), logits)
    assert right_classes(torch.ones(2, 1), torch.tensor([[1.0], [0.0]])).tolist() == [1, 0]


@pytest.mark.parametrize("loss", ["kd", "dkd"])
def test_a_student_learns_tags_from_its_teacher(tmp_path: Path, loss: str) -> None:
    """From the teacher alone, whose answers are right by construction."""
    teacher = nn.Embedding.from_pretrained(6.0 * torch.eye(3)[torch.arange(7) % 3])
    step = Distill(epochs=30, learning_rate=0.3, teacher_weight=1.0, loss=loss, temperature=2.0)  # type: ignore[arg-type]
    result = step.apply(Tagger(2), context(tmp_path, tagging(), teacher=teacher))
    assert result.facts["validation_before"] < 0.9 and result.facts["validation"] == 1.0


def test_three_axes_without_a_label_for_each_token_are_refused(tmp_path: Path) -> None:
    for wrong in (torch.zeros(40, dtype=torch.int64), torch.zeros(40, 6), torch.zeros(40, 5, dtype=torch.int64)):
        train = TensorBatches(tagged().inputs, wrong, batch_size=8)
        with pytest.raises(
            UnsupportedError,
            match=r"distill: the first output has shape \(2, 6, 3\); .*with a whole number for each token as target",
        ):
            Distill().apply(Tagger(), context(tmp_path, tagging(train=train), teacher=Tagger()))


def test_one_logit_a_token_is_refused(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Embedding(7, 1))
    with pytest.raises(UnsupportedError, match=r"first output has shape \(2, 6, 1\); .*Set teacher_weight to 0"):
        Distill().apply(network, context(tmp_path, tagging(metric=MeanSquare()), teacher=network))
