"""What a recipe may say of quantization-aware training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Qat:
    """Fine-tune the quantized network with the fake quantization of its scheme, the original as teacher.

    The loss is `teacher_weight * kd_loss + (1 - teacher_weight) * task loss`; Adam, whose learning rate falls to zero as a
    cosine; the last epoch is kept. Interrupted training resumes where it was.
    """

    epochs: int = 1
    """Passes over the training batches."""
    learning_rate: float = 3e-5
    """At its highest, after the warmup. INT8 ResNet-20 came closer to the original with 3e-5 than with 1e-4; weights that are
    rounded to 4 bits without further care want 3e-4; 1e-3 destroys them."""
    warmup_epochs: float = 0.0
    """Epochs over which the learning rate rises from zero."""
    temperature: float = 4.0
    """Of the softened answers, dimensionless; 1 compares the plain probabilities."""
    teacher_weight: float = 0.9
    """Share of the teacher in the loss, 0 to 1; 0 trains on the task's own loss alone."""

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, f"epochs must be 1 or more, found {self.epochs}")
        _require(
            0 < self.learning_rate <= 1, f"learning_rate must be above 0 and at most 1, found {self.learning_rate}"
        )
        _require(
            0 <= self.warmup_epochs < self.epochs,
            f"warmup_epochs must be at least 0 and below epochs ({self.epochs}), found {self.warmup_epochs}",
        )
        _require(0 < self.temperature <= 100, f"temperature must be above 0 and at most 100, found {self.temperature}")
        _require(0 <= self.teacher_weight <= 1, f"teacher_weight must be from 0 to 1, found {self.teacher_weight}")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
