"""Tiny seeded models that the pruning tests share; batch norms have statistics as if trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

Inputs = dict[str, Tensor]

torch.set_num_threads(1)  # models this small run several times slower on two threads of a busy machine


class PaddedBlock(nn.Module):
    """Residual block whose shortcut skips every second position and pads the channels with zeros (option A)."""

    def __init__(self, wide_in: int, wide_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(wide_in, wide_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide_out)
        self.conv2 = nn.Conv2d(wide_out, wide_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(wide_out)
        self.stride, self.added = stride, (wide_out - wide_in) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.added, self.added))
        return F.relu(x + y)


class PaddedResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.one = PaddedBlock(8, 8, 1)
        self.two = PaddedBlock(8, 16, 2)
        self.linear = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.two(self.one(F.relu(self.bn(self.conv(x)))))
        return self.linear(F.avg_pool2d(y, y.size()[3]).flatten(1))


class ProjectedBlock(nn.Module):
    """Residual block with a 1x1 convolution in the shortcut, in-place activations and a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv1 = nn.Conv2d(8, 12, 3, 2, 1)
        self.bn1 = nn.BatchNorm2d(12)
        self.conv2 = nn.Conv2d(12, 16, 3, 1, 1)
        self.down = nn.Conv2d(8, 16, 1, 2)
        self.linear = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu_(self.stem(x))
        y = self.conv2(F.relu_(self.bn1(self.conv1(x))))
        y += self.down(x)
        return self.linear(F.adaptive_avg_pool2d(F.gelu(y), 1).flatten(1))


class Vgg(nn.Module):
    """Flattens 4x4 positions of every channel before the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1)
        )
        self.classifier = nn.Sequential(nn.Linear(8 * 4 * 4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 5))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.features(x))
        return self.classifier(y.view(y.size(0), -1))


class Mobile(nn.Module):
    """Inverted residual with a depthwise convolution and squeeze-and-excite."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 1, 1)
        self.expand = nn.Conv2d(8, 16, 1)
        self.depthwise = nn.Conv2d(16, 16, 3, 1, 1, groups=16, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.squeeze = nn.Conv2d(16, 4, 1)
        self.excite = nn.Conv2d(4, 16, 1)
        self.project = nn.Conv2d(16, 8, 1)
        self.linear = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = F.hardswish(self.bn(self.depthwise(F.relu6(self.expand(x)))))
        y = y * torch.sigmoid(self.excite(F.relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        return self.linear((x + self.project(y)).mean((2, 3)))


class Dense(nn.Module):
    """Concatenation of two branches, and of the input with what was made of it."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 6, 3, padding=1)
        self.right = nn.Conv2d(3, 10, 1)
        self.bn = nn.BatchNorm2d(16)
        self.conv = nn.Conv2d(16, 8, 3, padding=1)
        self.head = nn.Conv2d(16 + 8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat([self.left(x), self.right(x)], 1)
        grown = torch.cat([joined, F.silu(self.conv(F.relu(self.bn(joined))))], dim=1)
        return self.head(grown).mean((2, 3))


class Gated(nn.Module):
    """Gated feed-forward: two halves of one linear layer, multiplied; and a gate per neuron."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(6, 16)
        self.down = nn.Linear(8, 5)
        self.gate = nn.PReLU(8)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.up(x).chunk(2, dim=-1)
        return self.down(self.gate(F.silu(gate) * value))


class Attention(nn.Module):
    """Self-attention written out, heads by `num_heads`, behind an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.head_dim = 4, 2
        self.embedding = nn.Embedding(11, 12)
        self.query, self.key, self.value = nn.Linear(12, 8), nn.Linear(12, 8), nn.Linear(12, 8)
        self.out = nn.Linear(8, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        batch, length, _ = x.shape
        query, key, value = (
            each(x).view(batch, length, self.num_heads, self.head_dim).permute(0, 2, 1, 3)
            for each in (self.query, self.key, self.value)
        )
        scores = torch.softmax(query @ key.transpose(-2, -1) / self.head_dim**0.5, -1)
        mixed = (scores @ value).transpose(1, 2).contiguous().view(batch, length, self.num_heads * self.head_dim)
        return self.out(mixed)


class BakedWidth(nn.Module):
    """Two layers: one whose width stands in the code, one that is free."""

    def __init__(self) -> None:
        super().__init__()
        self.baked = nn.Linear(6, 16)
        self.middle = nn.Linear(16, 16)
        self.out = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.baked(x)).reshape(-1, 16)
        return self.out(F.relu(self.middle(y)))


class Sorted(nn.Module):
    """`sort` over the channels has no rule."""

    def __init__(self) -> None:
        super().__init__()
        self.sorted = nn.Linear(6, 16)
        self.free = nn.Linear(16, 16)
        self.out = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.free(torch.sort(self.sorted(x), -1).values)))


class Bert(nn.Module):
    """A tiny transformers BERT behind ids and a mask; returns the pooled output."""

    def __init__(self, implementation: str) -> None:
        from transformers import BertConfig, BertModel

        super().__init__()
        config = BertConfig(
            vocab_size=30,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=24,
            max_position_embeddings=16,
            attn_implementation=implementation,
        )
        self.bert = BertModel(config)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        return self.bert(input_ids=input_ids, attention_mask=attention_mask).pooler_output


def made(model: Callable[[], nn.Module]) -> nn.Module:
    """The model from seed 0, in eval mode, with weights and batch-norm statistics of ordinary size."""
    torch.manual_seed(0)
    module = model().eval()
    for each in module.modules():
        if isinstance(each, nn.BatchNorm2d):
            for tensor in (each.weight, each.bias, each.running_mean):
                nn.init.normal_(tensor)
            nn.init.uniform_(each.running_var, 0.5, 2.0)
    return module


def images() -> Inputs:
    return {"x": torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))}


def rows() -> Inputs:
    return {"x": torch.randn(3, 6, generator=torch.Generator().manual_seed(1))}


def tokens() -> Inputs:
    return {"tokens": torch.arange(14).reshape(2, 7) % 11}


def sentences() -> Inputs:
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0]])
    return {"input_ids": torch.arange(14).reshape(2, 7), "attention_mask": mask}
