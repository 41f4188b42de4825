"""Fake quantization against values and gradients worked out by hand."""

from __future__ import annotations

import torch

from compress.qat.fake_quantize import Grid, fake_quantize, integers_on_grid

ZERO = torch.zeros(())


def test_values_are_clipped_to_the_grid_and_rounded_half_to_even() -> None:
    x = torch.tensor([-9.0, -1.3, -0.25, 0.25, 0.75, 1.2, 9.0])
    found = fake_quantize(x, torch.tensor(0.5), ZERO, Grid(-4, 3))
    assert found.tolist() == [-2.0, -1.5, 0.0, 0.0, 1.0, 1.0, 1.5]


def test_a_zero_point_moves_the_range() -> None:
    """uint8 with zero point 250: 250 steps below zero, 5 above."""
    x = torch.tensor([-300.0, -3.2, 4.6, 7.0])
    assert fake_quantize(x, torch.tensor(1.0), torch.tensor(250.0), Grid(0, 255)).tolist() == [-250, -3, 5, 5]


def test_scales_lie_along_their_axis() -> None:
    x = torch.tensor([[0.6, 0.6], [-1.4, -1.4]])
    scale = torch.tensor([1.0, 0.5])
    assert fake_quantize(x, scale, ZERO, Grid(-8, 7, axis=1)).tolist() == [[1.0, 0.5], [-1.0, -1.5]]
    assert fake_quantize(x, scale, ZERO, Grid(-8, 7, axis=0)).tolist() == [[1.0, 1.0], [-1.5, -1.5]]


def test_blocks_share_a_scale_and_the_last_may_be_shorter() -> None:
    x = torch.tensor([[0.6, 0.6, 0.6, 0.6, 0.6]])
    scale = torch.tensor([[1.0, 0.5, 0.25]])
    found = fake_quantize(x, scale, ZERO, Grid(-8, 7, axis=1, block=2))
    assert found.tolist() == [[1.0, 1.0, 0.5, 0.5, 0.5]]


def test_the_gradient_goes_straight_through_inside_the_range_and_stops_outside() -> None:
    """In steps of 0.5 from -4 to 3: 1.7 rounds to 3 and is inside, 1.8 would round to 4 and is clipped."""
    x = torch.tensor([-3.0, -2.2, 0.3, 1.7, 1.8], requires_grad=True)
    upstream = torch.tensor([1.0, 10.0, 100.0, 1000.0, 10000.0])
    fake_quantize(x, torch.tensor(0.5), ZERO, Grid(-4, 3)).backward(upstream)  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 10.0, 100.0, 1000.0, 0.0]


def test_the_range_of_the_gradient_moves_with_the_zero_point() -> None:
    """uint8 with zero point 250: 5.4 rounds to 255, 5.6 would be 256."""
    x = torch.tensor([-251.0, -250.4, 5.4, 5.6], requires_grad=True)
    fake_quantize(x, torch.tensor(1.0), torch.tensor(250.0), Grid(0, 255)).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 0.0]


def test_stored_integers_are_those_that_training_saw() -> None:
    """Over a million seeded values and channels with awkward scales: dequantized, they are equal bit by bit."""
    torch.manual_seed(0)
    x, scale, grid = torch.randn(64, 16384), 0.001 + torch.rand(64) / 3, Grid(-64, 64, axis=0)
    integers = integers_on_grid(x, grid.spread(scale, x.shape), ZERO, grid)
    assert torch.equal(integers.float() * scale.view(-1, 1), fake_quantize(x, scale, ZERO, grid))
