"""A small MobileNetV2 for CIFAR-10: inverted residuals with depthwise convolutions (Sandler et al. 2018, arXiv:1801.04381)."""

from __future__ import annotations

from torch import Tensor, nn

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 3, 2), (6, 96, 1, 1))
"""Expansion, channels, blocks and first stride of each stage: the paper's, shallower and less often halved for 32 pixels."""


class CifarMobileNet(nn.Module):
    """Logits of shape (batch, 10) from images of shape (batch, 3, 32, 32).

    Args:
        stages: expansion, channels, blocks and first stride of each stage.
    """

    def __init__(self, stages: tuple[tuple[int, int, int, int], ...] = STAGES) -> None:
        super().__init__()
        self.stem = _convolution(3, 16, kernel=3)
        blocks: list[nn.Module] = []
        inputs = 16
        for expansion, channels, count, stride in stages:
            for place in range(count):
                blocks.append(InvertedResidual(inputs, channels, expansion, stride if place == 0 else 1))
                inputs = channels
        self.blocks = nn.Sequential(*blocks)
        self.head = _convolution(inputs, 256, kernel=1)
        self.linear = nn.Linear(256, 10)

    def forward(self, image: Tensor) -> Tensor:
        features = self.head(self.blocks(self.stem(image)))
        logits: Tensor = self.linear(features.mean((2, 3)))
        return logits


class InvertedResidual(nn.Module):
    """Widen by 1x1, filter each channel by 3x3, narrow by 1x1 without activation; a shortcut where shapes agree."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        widen = [_convolution(inputs, hidden, kernel=1)] if expansion > 1 else []
        filtered = _convolution(hidden, hidden, kernel=3, stride=stride, groups=hidden)
        narrow = nn.Sequential(nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.layers = nn.Sequential(*widen, filtered, narrow)
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        changed: Tensor = self.layers(features)
        return features + changed if self.has_shortcut else changed


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU6())
