"""Random small models for the property tests of pruning: image models and sequence models, each from a program.

A program is a list of numbers that hypothesis draws; every list is a model. Layers whose sizes do not fit are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class Draw:
    """The numbers of a program, one after the other; zeros when they are used up."""

    def __init__(self, program: Sequence[int]) -> None:
        self._numbers: Iterator[int] = iter(program)

    def of(self, choices: Sequence[Any]) -> Any:
        return choices[next(self._numbers, 0) % len(choices)]


class Named(nn.Module):
    """A function of x and of named children and parameters."""

    def __init__(self, function: Callable[..., Tensor], **owned: nn.Module | nn.Parameter) -> None:
        super().__init__()
        for name, each in owned.items():
            setattr(self, name, each)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


Made = tuple[nn.Module, int, int]
"""The layer, its output channels, the side of its output."""


def conv(draw: Draw, width: int, side: int) -> Made:
    out = draw.of((8, 4, 12))
    return nn.Conv2d(width, out, draw.of((3, 1)), padding="same", bias=draw.of((True, False))), out, side


def grouped(draw: Draw, width: int, side: int) -> Made:
    groups, times = draw.of((2, 4, width)), draw.of((1, 2))
    return nn.Conv2d(width, width * times, 3, padding=1, groups=groups), width * times, side


def transposed(draw: Draw, width: int, side: int) -> Made:
    groups = draw.of((1, 2, width))
    out = draw.of((8, 4)) if groups < width else width
    return nn.ConvTranspose2d(width, out, 2, 2, groups=groups, bias=draw.of((True, False))), out, 2 * side


def norm(draw: Draw, width: int, side: int) -> Made:
    made = (
        nn.BatchNorm2d,
        lambda size: nn.GroupNorm(2, size),
        lambda size: nn.GroupNorm(size // 2, size),
        lambda size: nn.InstanceNorm2d(size, affine=True),
        lambda size: nn.GroupNorm(1, size),
        channels_last_norm,
        lambda size: nn.BatchNorm2d(size, affine=False),
    )
    return draw.of(made)(width), width, side


def channels_last_norm(width: int) -> nn.Module:
    return Named(lambda own, x: own.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), norm=nn.LayerNorm(width))


def activation(draw: Draw, width: int, side: int) -> Made:
    shared = (nn.ReLU(), nn.SiLU(), nn.Sigmoid(), nn.Hardswish(), nn.Softplus(), nn.PReLU(width), nn.PReLU())
    return draw.of(shared), width, side


def pool(draw: Draw, width: int, side: int) -> Made:
    made = (nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(side // 2), nn.AdaptiveMaxPool2d(side // 2))
    return draw.of(made), width, side // 2


def residual(draw: Draw, width: int, side: int) -> Made:
    body = nn.Sequential(nn.Conv2d(width, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, width, 1))
    return Named(draw.of((lambda own, x: x + own.body(x), lambda own, x: own.body(x).add_(x))), body=body), width, side


def shortcut(draw: Draw, width: int, side: int) -> Made:
    if draw.of((True, False)):
        parts = {"body": nn.Conv2d(width, 8, 3, padding=1), "down": nn.Conv2d(width, 8, 1)}
        return Named(lambda own, x: own.body(x) + own.down(x), **parts), 8, side
    body = nn.Conv2d(width, width + 4, 3, padding=1)
    return Named(lambda own, x: own.body(x) + F.pad(x, (0, 0, 0, 0, 2, 2)), body=body), width + 4, side


def dense(draw: Draw, width: int, side: int) -> Made:
    body = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 4, 3, padding=1))
    order = draw.of((lambda own, x: torch.cat([x, own.body(x)], 1), lambda own, x: torch.cat([own.body(x), x], 1)))
    return Named(order, body=body), width + 4, side


def inception(draw: Draw, width: int, side: int) -> Made:
    parts = {"one": nn.Conv2d(width, 4, 1), "two": nn.Conv2d(width, 6, 3, padding=1), "three": nn.Conv2d(width, 2, 1)}
    return (
        Named(lambda own, x: torch.cat([own.one(x), own.two(x), own.three(F.avg_pool2d(x, 3, 1, 1))], 1), **parts),
        12,
        side,
    )


def squeeze_excite(draw: Draw, width: int, side: int) -> Made:
    squeeze = nn.Conv2d(width, 4, 1)
    excite = nn.Conv2d(4, width, 1)

    def function(own: Any, x: Tensor) -> Tensor:
        return x * torch.sigmoid(own.excite(torch.relu(own.squeeze(x.mean((2, 3), keepdim=True)))))

    return Named(function, squeeze=squeeze, excite=excite), width, side


def scale(draw: Draw, width: int, side: int) -> Made:
    apply = draw.of((lambda own, x: x * own.by.view(1, -1, 1, 1), lambda own, x: x + own.by[:, None, None]))
    return Named(apply, by=nn.Parameter(torch.randn(width))), width, side


def pixels(draw: Draw, width: int, side: int) -> Made:
    up = width % 4 == 0 and draw.of((True, False))
    return (nn.PixelShuffle(2), width // 4, 2 * side) if up else (nn.PixelUnshuffle(2), 4 * width, side // 2)


def shuffle(draw: Draw, width: int, side: int) -> Made:
    def by_hand(own: Any, x: Tensor) -> Tensor:
        batch, _, high, wide = x.shape
        return x.view(batch, 2, -1, high, wide).transpose(1, 2).reshape(batch, -1, high, wide)

    return draw.of((nn.ChannelShuffle(2), Named(by_hand))), width, side


def gate(draw: Draw, width: int, side: int) -> Made:
    def halves(own: Any, x: Tensor) -> Tensor:
        one, two = x.chunk(2, 1)
        return one * two

    return draw.of((nn.GLU(1), Named(halves))), width // 2, side


def odd(draw: Draw, width: int, side: int) -> Made:
    """What cannot be followed, or only with care."""
    functions = (
        lambda own, x: x * x.mean(1, keepdim=True),
        lambda own, x: x.flip(1),
        lambda own, x: x + x.sum(1, keepdim=True),
        lambda own, x: F.normalize(x, dim=1),
        lambda own, x: x / (1 + x.abs()),
        lambda own, x: x.flatten(2).transpose(1, 2).softmax(1).transpose(1, 2).unflatten(2, x.shape[2:]),
        lambda own, x: torch.stack([x, 2 * x], 0).mean(0),
        lambda own, x: x.clamp(-1, 1),
        lambda own, x: torch.where(x > 0, x, 0.1 * x.square()),
        lambda own, x: torch.roll(x, 1, 2),
        lambda own, x: x * x.amax(1, keepdim=True),
    )
    return Named(draw.of(functions)), width, side


IMAGE_LAYERS = (
    conv,
    grouped,
    norm,
    activation,
    residual,
    squeeze_excite,
    dense,
    inception,
    pool,
    scale,
    shortcut,
    pixels,
    shuffle,
    gate,
    transposed,
    odd,
)


def image_model(program: Sequence[int]) -> nn.Module:
    """Takes (batch, 3, 8, 8)."""
    draw = Draw(program)
    layers: list[nn.Module] = [nn.Conv2d(3, 8, 3, padding=1)]
    width, side = 8, 8
    for _ in range(draw.of(range(1, 9))):
        made = draw.of(IMAGE_LAYERS)(draw, width, side)
        if 4 <= made[1] <= 32 and made[1] % 4 == 0 and 2 <= made[2] <= 16:
            layers.append(made[0])
            _, width, side = made
    pooled = draw.of((True, False))
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()] if pooled else [nn.Flatten()]
    layers.append(nn.Linear(width if pooled else width * side * side, 5))
    return nn.Sequential(*layers)


class Attention(nn.Module):
    """Four heads of width 2 behind one of several ways to make and to mix queries, keys and values."""

    def __init__(self, projected: str, mixed: str, width: int) -> None:
        super().__init__()
        self.projected, self.mixed, self.head_dim = projected, mixed, 2
        rows = {"separate": 8, "grouped": 8, "fused": 24, "chunked": 24, "interleaved": 24}[projected]
        self.query = nn.Linear(width, rows)
        if projected in ("separate", "grouped"):
            kept = 8 if projected == "separate" else 4
            self.key, self.value = nn.Linear(width, kept), nn.Linear(width, kept, bias=False)
        self.out = nn.Linear(8, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        query, key, value = self._projections(x)
        if self.mixed == "fused":
            y = F.scaled_dot_product_attention(query, key, value, enable_gqa=self.projected == "grouped")
        else:
            if self.projected == "grouped":
                key = key.repeat_interleave(2, 1)
                value = value[:, :, None].expand(-1, -1, 2, -1, -1).reshape(batch, -1, length, 2)
            mask = torch.full((length, length), -1e4, dtype=x.dtype).triu(1)
            if self.mixed == "einsum":
                weights = torch.softmax(torch.einsum("bhid,bhjd->bhij", query, key) * 0.7 + mask, -1)
                y = torch.einsum("bhij,bhjd->bhid", weights, value)
            else:
                y = torch.softmax((query * 0.7) @ key.transpose(-2, -1) + mask, -1) @ value
        return self.out(y.transpose(1, 2).reshape(batch, length, -1))

    def _projections(self, x: Tensor) -> tuple[Tensor, ...]:
        batch, length, _ = x.shape
        if self.projected in ("separate", "grouped"):
            made = (self.query(x), self.key(x), self.value(x))
        elif self.projected == "chunked":
            made = self.query(x).chunk(3, -1)
        elif self.projected == "fused":
            return self.query(x).reshape(batch, length, 3, -1, 2).permute(2, 0, 3, 1, 4).unbind(0)
        else:  # as GPT-NeoX keeps it
            return self.query(x).view(batch, length, -1, 6).transpose(1, 2).chunk(3, -1)
        return tuple(each.view(batch, length, -1, 2).transpose(1, 2) for each in made)


def attention(draw: Draw, width: int) -> nn.Module:
    projected = draw.of(("separate", "fused", "grouped", "chunked", "interleaved"))
    return Attention(projected, draw.of(("fused", "einsum", "plain")), width)


def fused_attention(draw: Draw, width: int) -> nn.Module:
    def function(own: Any, x: Tensor) -> Tensor:
        return own.attention(x, x, x, need_weights=draw_weights)[0]

    draw_weights = draw.of((False, True))
    return Named(function, attention=nn.MultiheadAttention(width, 4, batch_first=True))


def encoder_layer(draw: Draw, width: int) -> nn.Module:
    return nn.TransformerEncoderLayer(width, 4, 8, 0.0, batch_first=True, norm_first=draw.of((True, False)))


def single_head(draw: Draw, width: int) -> nn.Module:
    parts = {name: nn.Linear(width, 8) for name in ("query", "key")}
    act = draw.of((torch.relu, torch.sigmoid))

    def function(own: Any, x: Tensor) -> Tensor:
        return torch.softmax(act(own.query(x)) @ act(own.key(x)).transpose(1, 2), -1) @ x

    return Named(function, **parts)


def feed_forward(draw: Draw, width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, 12), draw.of((nn.GELU(), nn.Sigmoid())), nn.Linear(12, width))


def gated(draw: Draw, width: int) -> nn.Module:
    if draw.of((True, False)):
        parts = {"gate": nn.Linear(width, 12), "up": nn.Linear(width, 12), "down": nn.Linear(12, width)}
        return Named(lambda own, x: own.down(F.silu(own.gate(x)) * own.up(x)), **parts)

    def function(own: Any, x: Tensor) -> Tensor:
        gate, value = own.both(x).chunk(2, -1)
        return own.down(F.silu(gate) * value)

    return Named(function, both=nn.Linear(width, 24), down=nn.Linear(12, width))


def recurrent(draw: Draw, width: int) -> nn.Module:
    kind, both = draw.of((nn.LSTM, nn.GRU, nn.RNN)), draw.of((False, True))
    layer = kind(width, 6, draw.of((1, 2)), batch_first=True, bidirectional=both, bias=draw.of((True, False)))
    back = nn.Linear(12 if both else 6, width)
    final = draw.of((lambda own, x: own.back(own.layer(x)[0]), lambda own, x: own.back(own.layer(x)[0].tanh())))
    return Named(final, layer=layer, back=back)


def stepped(draw: Draw, width: int) -> nn.Module:
    kind = draw.of((nn.GRUCell, nn.RNNCell))

    def function(own: Any, x: Tensor) -> Tensor:
        state = own.cell(x[:, 0])
        for place in range(1, x.shape[1]):
            state = own.cell(x[:, place], state)
        return own.back(state)[:, None]

    return Named(function, cell=kind(width, 6), back=nn.Linear(6, width))


def convolved(draw: Draw, width: int) -> nn.Module:
    groups = draw.of((1, width))
    layer = nn.Conv1d(width, width, 3, padding=1, groups=groups)
    return Named(lambda own, x: own.conv(x.transpose(1, 2)).transpose(1, 2), conv=layer)


def moved(draw: Draw, width: int) -> nn.Module:
    functions = (
        lambda own, x: x.roll(1, 1),
        lambda own, x: x.flip(-1),
        lambda own, x: x * own.by,
        lambda own, x: x + own.by.expand(x.shape[1], -1),
        lambda own, x: x / own.by.exp(),
        lambda own, x: torch.cat([x[:, :1], x[:, 1:]], 1),
        lambda own, x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6),
        lambda own, x: x.pow(2).sum(-1, keepdim=True) * x,
        lambda own, x: x.sigmoid(),
    )
    return Named(draw.of(functions), by=nn.Parameter(torch.randn(width)))


BRANCHES = (
    attention,
    feed_forward,
    gated,
    recurrent,
    fused_attention,
    encoder_layer,
    single_head,
    convolved,
    stepped,
    moved,
)


class Branch(nn.Module):
    """x + f(norm(x)), norm(x + f(x)), or f(norm(x))."""

    def __init__(self, draw: Draw, width: int) -> None:
        super().__init__()
        self.body = draw.of(BRANCHES)(draw, width)
        self.norm = draw.of((nn.RMSNorm, nn.LayerNorm, lambda size: nn.Identity(), LlamaRMSNorm))(width)
        self.order = draw.of(("before", "after", "alone"))

    def forward(self, x: Tensor) -> Tensor:
        if self.order == "after":
            return self.norm(x + self.body(x))
        return self.body(self.norm(x)) + (x if self.order == "before" else 0)


class LlamaRMSNorm(nn.Module):
    """As transformers writes it out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = nn.Parameter(torch.ones(width)), 1e-3

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


class SequenceModel(nn.Module):
    """Tokens (batch, length) to logits; the head may be the embedding's own weight."""

    def __init__(self, program: Sequence[int]) -> None:
        super().__init__()
        draw = Draw(program)
        self.tied, positions = draw.of((False, True)), draw.of((True, False))
        self.embedding = nn.Embedding(11, 8)
        self.positions = nn.Parameter(torch.randn(1, 5, 8)) if positions else None
        self.branches = nn.Sequential(*(Branch(draw, 8) for _ in range(draw.of(range(1, 5)))))
        self.norm = draw.of((nn.RMSNorm, nn.LayerNorm, lambda size: nn.Identity()))(8)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        if self.positions is not None:
            x = x + self.positions
        x = self.norm(self.branches(x)).mean(1)
        return F.linear(x, self.embedding.weight) if self.tied else self.head(x)


def ready(model: nn.Module) -> nn.Module:
    """In eval mode and double precision, so that only errors show; norms and biases as if trained."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.named_parameters():
        if tensor.dim() == 1:
            tensor.data = torch.rand(tensor.shape, generator=generator) + 0.5
        elif "embedding" in name:
            tensor.data = torch.randn(tensor.shape, generator=generator)
    for name, tensor in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return model.eval().double()
