"""What a student is asked to match in its teacher: answers, features, attention, relations. Pure functions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def kd_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Temperature-scaled KL divergence from teacher to student.

    Args:
        student, teacher: logits, shape (answers, classes): one row a sample, or one a token.
        temperature: > 0, dimensionless; larger is softer.

    Returns:
        Scalar: mean over the rows times temperature squared, so that gradients keep their size.

    Raises:
        ValueError: if the two shapes differ.

    Source: Hinton et al. 2015, arXiv:1503.02531, section 2.
    """
    _same_shape(student, teacher)
    return _divergence(student / temperature, teacher / temperature) * temperature**2


def dkd_loss(student: Tensor, teacher: Tensor, target: Tensor, temperature: float, alpha: float, beta: float) -> Tensor:
    """Decoupled distillation: how sure of the right class (`alpha`), and how the rest is shared out (`beta`).

    `kd_loss` is the case alpha 1 and beta 1 - p, p the teacher's probability of the right class of each sample: it
    hardly listens to the shares where the teacher is sure.

    Args:
        student, teacher: logits, shape (answers, classes), 3 classes or more where `beta` is to matter.
        target: the right class of each row, int64, shape (answers,).
        temperature: > 0, dimensionless.

    Returns:
        Scalar: mean over the rows times temperature squared.

    Raises:
        ValueError: if the shapes do not fit.

    Source: Zhao et al. 2022, arXiv:2203.08679, equation 7.
    """
    _same_shape(student, teacher)
    if target.shape != student.shape[:1]:
        raise ValueError(f"target has shape {tuple(target.shape)}, logits {tuple(student.shape)}")
    right = functional.one_hot(target, student.shape[1]).bool()
    sure = _divergence(*(_right_against_rest(logits / temperature, right) for logits in (student, teacher)))
    shares = _divergence(*(_rest(logits / temperature, right) for logits in (student, teacher)))
    return (alpha * sure + beta * shares) * temperature**2


def feature_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of two features, over the mean square of the teacher's: 1 is what all zeros would get.

    Args:
        student, teacher: of one shape; the student's went through its projection.

    Source: the hints of Romero et al. 2014, arXiv:1412.6550, equation 3; made dimensionless, so that one weight fits
    layers of any scale.
    """
    _same_shape(student, teacher)
    return functional.mse_loss(student, teacher) / teacher.square().mean().clamp_min(1e-12)


def attention_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """How differently student and teacher look over an image: the distance of their activation maps.

    Args:
        student, teacher: features, shape (batch, channels, height, width); channels may differ.

    Returns:
        Scalar from 0 to 4: batch mean of the squared distance of the two maps, each the sum over channels of squares,
        scaled to length 1.

    Source: Zagoruyko & Komodakis 2016, arXiv:1612.03928, equation 2 with p = 2 inside; the distance is squared.
    """
    if student.shape[0] != teacher.shape[0] or student.shape[2:] != teacher.shape[2:]:
        raise ValueError(f"student features have shape {tuple(student.shape)}, the teacher's {tuple(teacher.shape)}")
    student_map, teacher_map = (
        functional.normalize(features.square().mean(1).flatten(1), dim=1) for features in (student, teacher)
    )
    return (student_map - teacher_map).square().sum(1).mean()


def relation_loss(student: Tensor, teacher: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """How differently the tokens of a sentence relate to each other: softmax of their scaled products, compared by KL.

    Args:
        student, teacher: one vector a token (queries, keys, values or hidden states), shape (batch, length, width);
            widths may differ.
        heads: into which both widths are cut; each gives a relation of its own.
        mask: 1 for a token, 0 for padding, shape (batch, length); padding takes no part.

    Returns:
        Scalar: mean over heads and tokens.

    Source: the value relation of Wang et al. 2020, arXiv:2002.10957, equations 8 to 10; cut into heads of its own
    number, so that the networks' heads may differ, as in Wang et al. 2021, arXiv:2012.15828, section 3.1.
    """
    if student.shape[:2] != teacher.shape[:2]:
        raise ValueError(f"student tokens have shape {tuple(student.shape)}, the teacher's {tuple(teacher.shape)}")
    if mask is None:
        mask = torch.ones(student.shape[:2], device=student.device)
    known = mask.bool()
    log_student, log_teacher = (_relation(tokens, heads, known) for tokens in (student, teacher))
    divergence = (log_teacher.exp() * (log_teacher - log_student)).masked_fill(~known[:, None, None, :], 0.0).sum(-1)
    weights = known[:, None, :].expand_as(divergence).to(divergence.dtype)
    return (divergence * weights).sum() / weights.sum().clamp_min(1.0)


def _relation(tokens: Tensor, heads: int, known: Tensor) -> Tensor:
    """Log of the relation, shape (batch, heads, length, length); padding as a column gets a log of about -1e4."""
    batch, length, width = tokens.shape
    split = tokens.reshape(batch, length, heads, width // heads).transpose(1, 2)
    products = split @ split.transpose(-1, -2) / (width // heads) ** 0.5
    return functional.log_softmax(products.masked_fill(~known[:, None, None, :], -1e4), dim=-1)


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL divergence of the distributions that two rows of logits stand for, mean over the rows; 0 of none."""
    log_student, log_teacher = functional.log_softmax(student, dim=1), functional.log_softmax(teacher, dim=1)
    return functional.kl_div(log_student, log_teacher, reduction="sum", log_target=True) / max(len(student), 1)


def _right_against_rest(logits: Tensor, right: Tensor) -> Tensor:
    """The right class's logit beside one logit for all others together, shape (batch, 2)."""
    rest = logits.masked_fill(right, -torch.inf).logsumexp(1)
    return torch.stack([logits[right], rest], dim=1)


def _rest(logits: Tensor, right: Tensor) -> Tensor:
    """The logits of all but the right class, shape (batch, classes - 1)."""
    return logits[~right].reshape(len(logits), logits.shape[1] - 1)


def _same_shape(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(f"student logits have shape {tuple(student.shape)}, teacher logits {tuple(teacher.shape)}")
