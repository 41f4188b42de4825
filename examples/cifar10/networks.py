"""The networks that train.py trains from nothing, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cifar_inception import CifarInception
from cifar_mobilenet import CifarMobileNet
from cifar_resnet import CifarBottleneckResNet
from cifar_vgg import CifarVgg
from cifar_vit import CifarVit
from torch import nn

NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "bottleneck": CifarBottleneckResNet,
    "inception": CifarInception,
    "mobilenet": CifarMobileNet,
    "vgg": CifarVgg,
    "vit": CifarVit,
}
