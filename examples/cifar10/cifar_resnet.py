"""ResNets for CIFAR-10 (He et al. 2015, arXiv:1512.03385, section 4.2): of basic blocks, and of bottlenecks.

The first has option-A shortcuts and the names of layers of akamaster/pytorch_resnet_cifar10, whose weights are published.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class CifarResNet(nn.Module):
    """Logits of shape (batch, 10) from images of shape (batch, 3, 32, 32).

    Args:
        depth: 6n + 2 for n blocks in each of the three stages: 20, 32, 44, 56, 110.
    """

    def __init__(self, depth: int) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f"depth must be 6n + 2 with n of 1 or more (20, 32, 44, 56, ...), found {depth}")
        self.conv1, self.bn1 = _conv(3, 16), nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, 10)

    def forward(self, image: Tensor) -> Tensor:
        features = functional.relu(self.bn1(self.conv1(image)))
        features = self.layer3(self.layer2(self.layer1(features)))
        logits: Tensor = self.linear(functional.adaptive_avg_pool2d(features, 1).flatten(1))
        return logits


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut without weights."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(inputs, outputs, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = _conv(outputs, outputs), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity() if stride == 1 else PaddedShortcut((outputs - inputs) // 2)

    def forward(self, features: Tensor) -> Tensor:
        hidden = functional.relu(self.bn1(self.conv1(features)))
        return functional.relu(self.bn2(self.conv2(hidden)) + self.shortcut(features))


class CifarBottleneckResNet(nn.Module):
    """Logits of shape (batch, 10) from images of shape (batch, 3, 32, 32).

    Args:
        depth: 9n + 2 for n blocks in each of the three stages: 29, 38, 47, 164.
        width: of the bottlenecks of the first stage; outputs are four times as wide, and each stage doubles both.
    """

    def __init__(self, depth: int = 29, width: int = 16) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 9)
        if rest or blocks < 1:
            raise ValueError(f"depth must be 9n + 2 with n of 1 or more (29, 38, 47, 164, ...), found {depth}")
        self.conv1, self.bn1 = _conv(3, width), nn.BatchNorm2d(width)
        self.layer1 = _bottlenecks(width, width, blocks)
        self.layer2 = _bottlenecks(4 * width, 2 * width, blocks, stride=2)
        self.layer3 = _bottlenecks(8 * width, 4 * width, blocks, stride=2)
        self.linear = nn.Linear(16 * width, 10)

    def forward(self, image: Tensor) -> Tensor:
        features = functional.relu(self.bn1(self.conv1(image)))
        features = self.layer3(self.layer2(self.layer1(features)))
        logits: Tensor = self.linear(features.mean((2, 3)))
        return logits


class Bottleneck(nn.Module):
    """1x1 to a quarter of the channels, 3x3, 1x1 back, beside a shortcut: 1x1 where the shape changes (option B)."""

    def __init__(self, inputs: int, inner: int, stride: int = 1) -> None:
        super().__init__()
        outputs = 4 * inner
        self.conv1, self.bn1 = nn.Conv2d(inputs, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = _conv(inner, inner, stride), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        projection = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.shortcut = nn.Identity() if (inputs, stride) == (outputs, 1) else projection

    def forward(self, features: Tensor) -> Tensor:
        hidden = functional.relu(self.bn1(self.conv1(features)))
        hidden = functional.relu(self.bn2(self.conv2(hidden)))
        return functional.relu(self.bn3(self.conv3(hidden)) + self.shortcut(features))


class PaddedShortcut(nn.Module):
    """Option A: every second pixel, and `channels` zero channels before and after."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, features: Tensor) -> Tensor:
        return functional.pad(features[:, :, ::2, ::2], (0, 0, 0, 0, self.channels, self.channels))


def _stage(inputs: int, outputs: int, blocks: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(Block(inputs, outputs, stride), *(Block(outputs, outputs) for _ in range(blocks - 1)))


def _bottlenecks(inputs: int, inner: int, blocks: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(Bottleneck(inputs, inner, stride), *(Bottleneck(4 * inner, inner) for _ in range(blocks - 1)))


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
