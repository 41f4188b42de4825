"""Tiny seeded models, each with one property that export must handle."""

from __future__ import annotations

import torch
from torch import Tensor, nn

BATCH = {"image": {0: "batch"}}
FREE = {"image": {0: "batch", 2: "height"}}


def image(batch: int = 2, size: int = 8) -> dict[str, Tensor]:
    return {"image": torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))}


class Convolution(nn.Module):
    """Convolution, normalisation with statistics of its own, mean over the image: logits of shape (batch, 5)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        nn.init.uniform_(self.norm.running_mean)
        nn.init.uniform_(self.norm.running_var, 0.5, 2.0)
        self.head = nn.Linear(4, 5)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(image)).relu().mean((2, 3)))


class Everything(nn.Module):
    """Returns a mapping with tensors of several kinds, and something that is no tensor."""

    def forward(self, image: Tensor) -> dict[str, object]:
        halved = image[:, :, ::2]
        return {"halved": halved, "labels": image.mean((2, 3)).argmax(1), "note": None, "same": image}


class Attention(nn.Module):
    """Token ids and a mask, called by keyword in an order of its own; lengths up to 16."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.places = nn.Embedding(20, 8), nn.Embedding(16, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, mask: Tensor, ids: Tensor) -> Tensor:
        positions = torch.arange(ids.shape[1])
        hidden = self.layer(self.words(ids) + self.places(positions), src_key_padding_mask=mask == 0)
        return self.head(hidden[:, 0])


class BakedBatch(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image.reshape(2, -1)


class BranchOnSize(nn.Module):
    """Tracing keeps the branch of the example: a batch of more than 4 is answered wrongly."""

    def forward(self, image: Tensor) -> Tensor:
        return image.sum(1) if image.shape[0] > 4 else image.mean(1)


class BranchOnValue(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image * 2 if image.sum() > 0 else image


class BatchNormalised(nn.Module):
    """Normalises over the batch also at inference."""

    def forward(self, image: Tensor) -> Tensor:
        return ((image - image.mean(0)) / (image.std(0, correction=0) + 1)).mean((2, 3))


class Svd(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return torch.linalg.svd(image)[1]


class Outer(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, image: Tensor) -> Tensor:
        return self.inner(image)
