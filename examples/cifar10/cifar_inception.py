"""A small GoogLeNet for CIFAR-10: modules of four branches side by side, concatenated (Szegedy et al. 2014, arXiv:1409.4842).

As in the later versions, batch norms follow the convolutions (Ioffe & Szegedy 2015, arXiv:1502.03167), and two 3x3
convolutions stand for the 5x5 one (Szegedy et al. 2015, arXiv:1512.00567, section 3.1).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

STAGES = ((12, 1), (16, 2), (24, 2))
"""Unit of width and number of modules at 16x16, 8x8 and 4x4 pixels; GoogLeNet has 2, 5 and 2 modules."""


class CifarInception(nn.Module):
    """Logits of shape (batch, 10) from images of shape (batch, 3, 32, 32).

    Args:
        stages: unit of width and number of modules of each stage; pixels are halved before each.
    """

    def __init__(self, stages: tuple[tuple[int, int], ...] = STAGES) -> None:
        super().__init__()
        channels = 8 * stages[0][0]
        self.stem = _convolution(3, channels, kernel=3)
        layers: list[nn.Module] = []
        for unit, count in stages:
            layers.append(nn.MaxPool2d(3, stride=2, padding=1))
            for _ in range(count):
                layers.append(Inception(channels, unit))
                channels = 16 * unit
        self.blocks = nn.Sequential(*layers)
        self.linear = nn.Linear(channels, 10)

    def forward(self, image: Tensor) -> Tensor:
        features = self.blocks(self.stem(image))
        logits: Tensor = self.linear(features.mean((2, 3)))
        return logits


class Inception(nn.Module):
    """1x1; 1x1 -> 3x3; 1x1 -> 3x3 -> 3x3; pool -> 1x1: 4, 8, 2 and 2 units wide, 16 together.

    The proportions are those of module 3a in the paper's table 1, whose unit is 16.
    """

    def __init__(self, inputs: int, unit: int) -> None:
        super().__init__()
        self.one = _convolution(inputs, 4 * unit, kernel=1)
        self.three = nn.Sequential(_convolution(inputs, 6 * unit, kernel=1), _convolution(6 * unit, 8 * unit, kernel=3))
        self.five = nn.Sequential(
            _convolution(inputs, unit, kernel=1),
            _convolution(unit, 2 * unit, kernel=3),
            _convolution(2 * unit, 2 * unit, kernel=3),
        )
        self.pooled = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), _convolution(inputs, 2 * unit, kernel=1))

    def forward(self, features: Tensor) -> Tensor:
        branches = (self.one, self.three, self.five, self.pooled)
        return torch.cat([branch(features) for branch in branches], dim=1)


def _convolution(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())
