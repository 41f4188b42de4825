"""The losses of distillation against formulas written in numpy and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from compress.distill.losses import attention_loss, dkd_loss, feature_loss, kd_loss, relation_loss

STUDENT = np.array([[1.0, 2.0, -1.0, 0.5], [0.0, 0.0, 3.0, 1.0]])
TEACHER = np.array([[2.0, 1.0, 0.0, -1.0], [1.0, -1.0, 1.0, 0.0]])
TARGET = np.array([0, 2])


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Of distributions along the last axis."""
    divergence: np.ndarray = (p * np.log(p / q)).sum(-1)
    return divergence


def decoupled(temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Target-class and non-target divergence of each sample (arXiv:2203.08679, equations 3 to 5)."""
    p, q = softmax(TEACHER / temperature, 1), softmax(STUDENT / temperature, 1)
    rows = np.arange(2)
    right, mine = p[rows, TARGET], q[rows, TARGET]
    sure = kl(np.stack([right, 1 - right], 1), np.stack([mine, 1 - mine], 1))
    rest = [np.delete(row, target) for row, target in zip(p, TARGET, strict=True)]
    own = [np.delete(row, target) for row, target in zip(q, TARGET, strict=True)]
    shares = np.array([kl(one / one.sum(), two / two.sum()) for one, two in zip(rest, own, strict=True)])
    return sure, shares


def test_dkd_is_the_formula_of_zhao() -> None:
    sure, shares = decoupled(4.0)
    found = dkd_loss(torch.tensor(STUDENT), torch.tensor(TEACHER), torch.tensor(TARGET), 4.0, alpha=1.5, beta=8.0)
    assert found.item() == pytest.approx(16 * (1.5 * sure + 8.0 * shares).mean(), rel=1e-10)


def test_kd_is_the_decoupled_loss_with_the_teachers_doubt_as_beta() -> None:
    """Equation 6: KD = target-class part + (1 - p) non-target part, p the teacher's probability of the right class."""
    sure, shares = decoupled(2.0)
    doubt = 1 - softmax(TEACHER / 2.0, 1)[np.arange(2), TARGET]
    kd = kd_loss(torch.tensor(STUDENT), torch.tensor(TEACHER), 2.0)
    assert kd.item() == pytest.approx(4 * (sure + doubt * shares).mean(), rel=1e-10)


def test_dkd_of_equal_logits_is_zero_and_of_sure_ones_finite() -> None:
    logits = torch.tensor([[90.0, -90.0, 0.0]], requires_grad=True)
    assert dkd_loss(logits, logits.detach(), torch.tensor([0]), 1.0, 1.0, 8.0).item() == pytest.approx(0, abs=1e-6)
    loss = dkd_loss(logits, torch.tensor([[-90.0, 90.0, 0.0]]), torch.tensor([0]), 1.0, 1.0, 8.0)
    loss.backward()
    assert torch.isfinite(loss) and logits.grad is not None and torch.isfinite(logits.grad).all()


def test_dkd_of_two_classes_has_no_rest() -> None:
    logits, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.5]])
    without, many = (dkd_loss(logits, other, torch.tensor([1]), 3.0, 1.0, beta) for beta in (0.0, 8.0))
    assert without.item() == pytest.approx(many.item())
    assert without.item() == pytest.approx(kd_loss(logits, other, 3.0).item())


def test_feature_loss_is_a_share_of_the_teachers_mean_square() -> None:
    teacher = torch.tensor([[[[3.0, -1.0]]]])
    assert feature_loss(torch.zeros(1, 1, 1, 2), teacher).item() == pytest.approx(1.0)
    assert feature_loss(torch.tensor([[[[3.0, 1.0]]]]), teacher).item() == pytest.approx(4 / 10)
    assert feature_loss(2 * teacher + 1, 2 * teacher).item() == pytest.approx(2 / 40)


def test_attention_loss_compares_maps_of_length_one() -> None:
    student = torch.tensor([[[[3.0, 0.0]], [[4.0, 0.0]]]])  # two channels: the map (25, 0)
    teacher = torch.tensor([[[[0.0, 2.0]]]])  # one channel: the map (0, 4)
    both = torch.tensor([[[[1.0, 1.0]]]])
    assert attention_loss(student, teacher).item() == pytest.approx(2.0)  # orthogonal: |a|^2 + |b|^2
    assert attention_loss(student, both).item() == pytest.approx(2 - np.sqrt(2), rel=1e-6)
    assert attention_loss(student, 5 * student).item() == pytest.approx(0, abs=1e-12)


def test_relation_loss_is_the_formula_of_wang_head_by_head() -> None:
    rng = np.random.default_rng(0)
    student, teacher = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 3, 6))

    def relation(tokens: np.ndarray, head: int) -> np.ndarray:
        width = tokens.shape[2] // 2
        part = tokens[:, :, head * width : (head + 1) * width]
        products: np.ndarray = part @ part.transpose(0, 2, 1) / np.sqrt(width)
        return products

    expected = np.mean(
        [kl(softmax(relation(teacher, head), -1), np.exp(log_softmax(relation(student, head), -1))) for head in (0, 1)]
    )
    found = relation_loss(torch.tensor(student), torch.tensor(teacher), heads=2)
    assert found.item() == pytest.approx(expected, rel=1e-10)


def test_relation_loss_leaves_padding_out() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(1, 4, 6, generator=generator) for _ in range(2))
    mask = torch.tensor([[1, 1, 1, 0]])
    short = relation_loss(student[:, :3], teacher[:, :3], heads=3)
    student[:, 3], teacher[:, 3] = 100.0, -7.0
    assert relation_loss(student, teacher, 3, mask).item() == pytest.approx(short.item(), rel=1e-5)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"student logits have shape \(2, 4\), teacher logits \(2, 3\)"):
        dkd_loss(torch.ones(2, 4), torch.ones(2, 3), torch.zeros(2).long(), 1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match=r"target has shape \(2, 4\), logits \(2, 4\)"):
        dkd_loss(torch.ones(2, 4), torch.ones(2, 4), torch.zeros(2, 4).long(), 1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match=r"student features have shape \(1, 2, 4, 4\), the teacher's \(1, 2, 8, 8\)"):
        attention_loss(torch.ones(1, 2, 4, 4), torch.ones(1, 2, 8, 8))
    with pytest.raises(ValueError, match=r"student tokens have shape \(1, 5, 4\), the teacher's \(1, 6, 4\)"):
        relation_loss(torch.ones(1, 5, 4), torch.ones(1, 6, 4), heads=2)
