"""Three networks for 32x32 grey images: a small ResNet, a plain CNN, and a multilayer perceptron."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn
from torch.nn import functional


class DigitsNet(nn.Module):
    """Logits of shape (batch, 10) from images of shape (batch, 1, 32, 32).

    3 stages of 2 residual blocks, 16, 32 and 64 channels wide.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(1, 16), nn.BatchNorm2d(16), nn.ReLU())
        self.stages = nn.Sequential(
            Block(16, 16), Block(16, 16), Block(16, 32, stride=2), Block(32, 32), Block(32, 64, stride=2), Block(64, 64)
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(64, 10)

    def forward(self, image: Tensor) -> Tensor:
        features = self.pool(self.stages(self.stem(image))).flatten(1)
        logits: Tensor = self.classifier(features)
        return logits


class DigitsCnn(nn.Module):
    """The same from two convolutions and two linear layers.

    Args:
        width: channels of the first convolution; the second has twice as many, as has the first linear layer neurons.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(4),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(2 * width * 4 * 4, 2 * width), nn.ReLU(), nn.Linear(2 * width, 10)
        )

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(image))
        return logits


class DigitsMlp(nn.Module):
    """The same from three linear layers, over the averages of 2x2 pixels: the digits were 8x8 before they were enlarged.

    Args:
        width: neurons of the second hidden layer; the first has half as many more.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * 16, width * 3 // 2),
            nn.ReLU(),
            nn.Linear(width * 3 // 2, width),
            nn.ReLU(),
            nn.Linear(width, 10),
        )

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.layers(image)
        return logits


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {"resnet": DigitsNet, "cnn": DigitsCnn, "mlp": DigitsMlp}


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes (He et al. 2015)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(inputs, outputs, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = _conv(outputs, outputs), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity() if (inputs, stride) == (outputs, 1) else _projection(inputs, outputs, stride)

    def forward(self, features: Tensor) -> Tensor:
        hidden = functional.relu(self.bn1(self.conv1(features)))
        return functional.relu(self.bn2(self.conv2(hidden)) + self.shortcut(features))


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)


def _projection(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
