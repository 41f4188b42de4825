"""`fine_tune`: train a quantized ONNX model in torch and give it back as the same Q/DQ graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from compress.distill import answers, check_teachable, kd_loss
from compress.evaluate import evaluate
from compress.qat.network import QuantizedNetwork
from compress.qat.settings import Qat
from compress.quantize.scales import refuse_broken_scales
from compress.training import Epoch, Schedule, Training, train
from compress.workload import Batch, Workload
from export.calling import call
from export.errors import InputError
from export.files import write_whole
from export.model import OnnxModel
from export.progress import Track, silent


@dataclass(frozen=True)
class FineTuned:
    """The trained Q/DQ model, and the metric on the validation set before and after each epoch, all in torch."""

    model: OnnxModel
    validation_before: float
    epochs: tuple[Epoch, ...]


def fine_tune(
    quantized: OnnxModel,
    floats: OnnxModel,
    teacher: nn.Module,
    workload: Workload,
    settings: Qat,
    *,
    seed: int,
    scratch: Path,
    out: Path,
    description: str = "qat",
    track: Track = silent,
) -> FineTuned:
    """Train the weights and biases of a Q/DQ graph under its own quantization.

    Args:
        quantized: with static Q/DQ, as the scheme's quantizer made it.
        floats: the float model that it was made of.
        teacher: the original, in eval mode.
        scratch: holds the checkpoint of an interrupted training.
        out: the ONNX file to write: nodes, names, types and the scales of activations are those of `quantized`.

    Raises:
        UnsupportedError: if an operator cannot be trained through, or the teacher's answers are not logits.
        InputError: if there is nothing to train, or no batch to learn from.
        QualityError: if the loss becomes NaN or Inf.
    """
    network = QuantizedNetwork(quantized.proto(), floats.proto())
    if not network.trained:
        raise InputError("qat: the quantized model has no weight or bias that is known to be one; leave qat out")
    names = [spec.name for spec in quantized.inputs]
    if settings.teacher_weight > 0:
        check_teachable(teacher, workload, "qat: the original's first output")

    def loss(inputs: dict[str, Tensor], target: Tensor) -> Tensor:
        outputs = network(*(inputs[name] for name in names))[0]
        task = workload.loss(outputs, target)
        if settings.teacher_weight == 0:
            return task
        with torch.no_grad():
            taught = call(teacher, inputs)[0]
        kd = kd_loss(answers(outputs, target), answers(taught, target), settings.temperature)
        return settings.teacher_weight * kd + (1 - settings.teacher_weight) * task

    def validate() -> float:
        assert workload.validation is not None, "the pipeline gives every workload a validation set"
        rows = evaluate(network, _with_inputs_in_order(workload.validation, names), workload.metric)
        return workload.metric.value(rows)

    before = validate()
    training = Training(
        model=network,
        optimizer=torch.optim.Adam(network.parameters(), settings.learning_rate),
        schedule=Schedule(settings.learning_rate, settings.epochs, settings.warmup_epochs),
        gradient_clip=None,
        seed=seed,
        checkpoint=scratch / "qat.pt",
        description=description,
        track=track,
    )
    epochs = train(training, workload.train, loss, validate)
    trained = network.to_onnx()
    refuse_broken_scales(trained.graph)
    write_whole(out, trained.SerializeToString(deterministic=True))
    return FineTuned(OnnxModel.read(out), before, tuple(epochs))


def _with_inputs_in_order(batches: Iterable[Batch], names: list[str]) -> Iterator[Batch]:
    """The network takes its inputs by position."""
    for inputs, target in batches:
        yield {name: inputs[name] for name in names}, target
