"""What of a model's output a teacher can teach: logits, one row for each answer that counts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.metrics import IGNORED
from compress.samples import first_pass
from compress.workload import Workload
from export.calling import call
from export.errors import UnsupportedError
from export.trace import evaluating


def as_logits(outputs: Tensor) -> Tensor:
    """Logits of shape (batch, classes); a single logit z a sample becomes the two classes (0, z), whose softmax is
    (1 - sigmoid(z), sigmoid(z))."""
    if outputs.ndim == 2 and outputs.shape[1] > 1:
        return outputs
    logit = outputs.reshape(-1)
    return torch.stack([torch.zeros_like(logit), logit], dim=1)


def answers(outputs: Tensor, target: Tensor) -> Tensor:
    """Logits of shape (answers, classes): one row a sample, or one a token that counts.

    Args:
        outputs: shape (batch, classes), one logit a sample, or shape (batch, length, classes).
        target: of the batch; of tokens shape (batch, length), and those labelled IGNORED do not count: padding, the
            rest of a word whose first piece is labelled, a word that was not masked. The task's loss leaves them out,
            so what a student says there is nobody's concern, and the mean over the others is not thinned.
    """
    return outputs[target != IGNORED] if outputs.ndim == 3 else as_logits(outputs)


def right_classes(outputs: Tensor, target: Tensor) -> Tensor:
    """The right class of each row of `answers`, int64, shape (answers,)."""
    return (target[target != IGNORED] if outputs.ndim == 3 else target.reshape(-1)).long()


def check_teachable(model: nn.Module, workload: Workload, whose: str) -> None:
    """Refuse a first output that is no logits.

    Args:
        whose: how the message begins: "distill: the first output".

    Raises:
        UnsupportedError: with the shape that was found.
    """
    with evaluating(model):
        shape = tuple(call(model, workload.example_inputs)[0].shape)
    if len(shape) == 3 and shape[2] > 1 and _labels_tokens(model, workload):
        return
    single = shape[1:] in ((), (1,))
    if len(shape) > 2 or (single and not workload.metric.classifies):
        raise UnsupportedError(
            f"{whose} has shape {shape}; a teacher needs logits of shape (batch, classes), logits of shape (batch, length, "
            "classes) with a whole number for each token as target, or one logit a sample under a metric that classifies. "
            "Set teacher_weight to 0 to train on the task's loss alone"
        )


def _labels_tokens(model: nn.Module, workload: Workload) -> bool:
    """Whether the first training batch has a label for each row of logits."""
    first = next(iter(first_pass(workload.train)), None)
    if first is None:
        return True  # the training says that there are no batches
    inputs, target = first
    with evaluating(model):
        rows = call(model, inputs)[0].shape[:2]
    return target.shape == rows and not target.is_floating_point()
