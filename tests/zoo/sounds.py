"""Tones in noise and a model of transformers that is to tell them apart: the workload of audio, for which none is ready-made."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from torch import Tensor, nn

from compress import Accuracy, TensorBatches, Workload

RATE = 16_000
LENGTH = 2_000
"""Samples of a sound, where the model takes them as they are."""


class Logits(nn.Module):
    """Of a model, under whatever name it takes its sound."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, sound: Tensor) -> Tensor:
        logits: Tensor = self.model(**{self.model.main_input_name: sound}).logits
        return logits


def sounds(model: str) -> Workload:
    """Two classes of tones, for the model of a folder: as samples of any number, or as a spectrogram of its size."""
    network = transformers.AutoModelForAudioClassification.from_pretrained(model)
    shape = _shape(network.config)
    train = TensorBatches(*_drawn(96, 1, shape), batch_size=8)
    return Workload(
        model=Logits(network),
        example_inputs=_drawn(2, 0, shape)[0],
        dynamic_axes={"sound": {0: "batch", **({1: "length"} if len(shape) == 1 else {})}},
        train=train,
        validation=TensorBatches(*_drawn(32, 2, shape), batch_size=8),
        evaluation=TensorBatches(*_drawn(32, 3, shape), batch_size=8),
        calibration=train,
        loss=nn.functional.cross_entropy,
        metric=Accuracy(),
    )


def is_free(model: str | Path) -> bool:
    """Whether the model of a folder takes sounds of any length."""
    return len(_shape(transformers.AutoConfig.from_pretrained(model))) == 1


def _shape(config: transformers.PretrainedConfig) -> tuple[int, ...]:
    if config.model_type == "audio-spectrogram-transformer":
        return config.max_length, config.num_mel_bins
    if config.model_type == "whisper":
        return config.num_mel_bins, 2 * config.max_source_positions
    return (LENGTH,)


def _drawn(samples: int, seed: int, shape: tuple[int, ...]) -> tuple[dict[str, Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    classes = torch.arange(samples) % 2
    hertz = torch.tensor([400.0, 1500.0])[classes].view(-1, *(1 for _ in shape))
    tone = torch.sin(2 * torch.pi * hertz * torch.arange(shape[-1]) / RATE)
    return {"sound": tone + 0.3 * torch.randn(samples, *shape, generator=generator)}, classes
