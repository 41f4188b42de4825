"""Attention in a bfloat16 training: computed in float32, beside everything else in bfloat16."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.training import Schedule, Training, train
from compress.training.float_attention import FloatAttention


def attended(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """softmax(q kT / sqrt(d) + mask) v, written out in float64."""
    scores = query.double() @ key.double().transpose(-2, -1) / query.shape[-1] ** 0.5
    return torch.softmax(scores + mask.double(), -1) @ value.double()


def test_attention_and_its_gradients_are_exact_under_autocast() -> None:
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(2, 3, 7, 4, generator=generator, requires_grad=True) for _ in range(3)]
    mask = torch.randn(2, 1, 1, 7, generator=generator)
    expected = attended(*parts, mask)
    wanted = torch.autograd.grad(expected.square().sum(), parts)

    def farthest() -> tuple[torch.dtype, float]:
        found = functional.scaled_dot_product_attention(*parts, attn_mask=mask)
        gradients = torch.autograd.grad(found.float().square().sum(), parts)
        pairs = zip([found, *gradients], [expected, *wanted], strict=True)
        return found.dtype, max(float((mine - right).detach().abs().max()) for mine, right in pairs)

    with torch.autocast("cpu", torch.bfloat16):
        coarse = farthest()
        with FloatAttention():
            exact = farthest()
            product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert coarse[0] is torch.bfloat16 and coarse[1] > 1e-3
    assert exact[0] is torch.float32 and exact[1] < 1e-5
    assert product.dtype is torch.bfloat16, "all else stays as autocast wants it"


def test_a_training_in_bfloat16_attends_in_float32(tmp_path: Path) -> None:
    seen: list[tuple[torch.dtype, torch.dtype]] = []

    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            projected = self.project(x)
            mixed = functional.scaled_dot_product_attention(projected, projected, projected)
            seen.append((projected.dtype, mixed.dtype))
            return mixed

    model = Attending()

    def loss(inputs: dict[str, Tensor], target: Tensor) -> Tensor:
        return model(**inputs).float().square().mean()

    for precision in ("fp32", "bf16"):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        training = Training(
            model, optimizer, Schedule(0.1, 1), None, 0, tmp_path / precision, "test", precision=precision
        )
        train(training, [({"x": torch.ones(2, 5, 4)}, torch.zeros(2))], loss, lambda: 0.0)
    assert seen == [(torch.float32, torch.float32), (torch.bfloat16, torch.float32)]
