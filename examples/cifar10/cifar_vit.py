"""A small vision transformer for CIFAR-10 (Dosovitskiy et al. 2020, arXiv:2010.11929), behind a convolutional stem.

Trained from nothing on 45,000 images, a transformer that sees plain patches learns slowly; a stem of a few convolutions
in their place learns faster (Xiao et al. 2021, arXiv:2106.14881). All the same, the dozen epochs that 25 minutes allow leave it
well behind convolutional networks, which need not learn that neighbours belong together.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

PATCH, SIDE = 4, 32


class CifarVit(nn.Module):
    """Logits of shape (batch, 10) from images of shape (batch, 3, 32, 32): 64 tokens, averaged at the end.

    Args:
        width: of a token; a multiple of `head_width` and of 4.
        depth: layers.
        head_width: of queries, keys and values in each head.
        expansion: neurons of the feed-forward layers, in widths.
    """

    def __init__(self, width: int = 128, depth: int = 6, head_width: int = 32, expansion: int = 2) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            *_convolution(3, width // 4, stride=1),
            *_convolution(width // 4, width // 2, stride=2),
            *_convolution(width // 2, width // 2, stride=1),
            nn.Conv2d(width // 2, width, 3, stride=2, padding=1),
        )
        self.positions = nn.Parameter(0.02 * torch.randn(1, (SIDE // PATCH) ** 2, width))
        self.layers = nn.Sequential(*(Layer(width, head_width, expansion * width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, 10)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.stem(image).flatten(2).transpose(1, 2) + self.positions
        logits: Tensor = self.linear(self.norm(self.layers(tokens)).mean(1))
        return logits


class Layer(nn.Module):
    """Attention, then a feed-forward network, each on the normalised tokens and added to them."""

    def __init__(self, width: int, head_width: int, hidden: int) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(width), Attention(width, head_width)
        self.norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(self.attention_norm(tokens))
        attended: Tensor = tokens + self.feed_forward(self.norm(tokens))
        return attended


class Attention(nn.Module):
    """Each token asks all others; the number of heads follows from what the projections give, so that heads can go."""

    def __init__(self, width: int, head_width: int) -> None:
        super().__init__()
        self.head_width = head_width
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = (self._heads(layer(tokens)) for layer in (self.query, self.key, self.value))
        mixed = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        attended: Tensor = self.out(mixed)
        return attended

    def _heads(self, projected: Tensor) -> Tensor:
        """(batch, tokens, heads * width) -> (batch, heads, tokens, width)."""
        return projected.unflatten(2, (-1, self.head_width)).transpose(1, 2)


def _convolution(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU()
