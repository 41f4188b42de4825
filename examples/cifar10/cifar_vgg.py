"""VGG-11 with batch norms for CIFAR-10, narrow (Simonyan & Zisserman 2014, arXiv:1409.1556, table 1, column A)."""

from __future__ import annotations

from torch import Tensor, nn

WIDTH = 48
"""Channels of the first convolution; the paper's are 64."""

STAGES = ((1,), (2,), (4, 4), (8, 8), (8, 8))
"""Channels of each stage's convolutions, in widths."""


class CifarVgg(nn.Module):
    """Logits of shape (batch, 10) from images of shape (batch, 3, 32, 32).

    The paper halves the pixels after each stage, which would leave one of 32x32; here the last stage keeps its 2x2, which
    are flattened before the classifier, as the paper's 7x7 are.

    Args:
        width: channels of the first convolution.
        stages: channels of each stage's convolutions, in widths.
    """

    def __init__(self, width: int = WIDTH, stages: tuple[tuple[int, ...], ...] = STAGES) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for place, stage in enumerate(stages):
            if place:
                layers.append(nn.MaxPool2d(2))
            for widths in stage:
                layers += _convolution(channels, widths * width)
                channels = widths * width
        self.features = nn.Sequential(*layers)
        side = 32 // 2 ** (len(stages) - 1)
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(channels * side**2, channels), nn.ReLU(), nn.Dropout(0.5), nn.Linear(channels, 10)
        )

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(image))
        return logits


def _convolution(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
