"""Rules of operators that compute with channels: layers, arithmetic, reductions, attention. See rules.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from compress.prune.channels import Axis
from compress.prune.site import Axes, Followed, Site, unknown


def linear(at: Site, x: Followed, weight: Followed, bias: Followed | None = None) -> Axes:
    """y[..., o] = bias[o] + sum of weight[o, i] x[..., i]: inputs meet columns, rows are the new channels."""
    at.same(x.axes[-1], weight.axes[1])
    at.channels.produce(weight.axes[0])
    out = weight.axes[0] if bias is None else at.same(weight.axes[0], bias.axes[0])
    return (*x.axes[:-1], out)


def convolution(
    at: Site,
    x: Followed,
    weight: Followed,
    bias: Followed | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Axes:
    """weight (out, in / groups, kernel...): one group is like linear; depthwise, a channel makes its own outputs."""
    if len(x.shape) != len(weight.shape):
        return unknown(at, x, weight, bias)
    rows = weight.axes[0] if bias is None else at.same(weight.axes[0], bias.axes[0])
    if groups == 1:
        at.same(x.axes[1], weight.axes[1])
        at.channels.produce(rows)
    elif groups == x.shape[1]:
        inputs = x.axes[1]
        at.same(None if inputs is None else np.repeat(inputs, weight.shape[0] // groups), rows)
    else:
        at.keep([x.axes[1], rows], f"{groups} groups of {weight.shape[1]} channels must stay equal")
        at.channels.produce(rows)
    return (x.axes[0], rows, *[None] * (len(x.shape) - 2))


def transposed_convolution(
    at: Site,
    x: Followed,
    weight: Followed,
    bias: Followed | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Axes:
    """weight (in, out / groups, kernel...): the convolution's rule with the two axes swapped."""
    if groups != 1:
        return unknown(at, x, weight, bias)
    at.same(x.axes[1], weight.axes[0])
    at.channels.produce(weight.axes[1])
    out = weight.axes[1] if bias is None else at.same(weight.axes[1], bias.axes[0])
    return (x.axes[0], out, *[None] * (len(x.shape) - 2))


def per_channel_norm(at: Site, x: Followed, *arguments: Any) -> Axes:
    """batch_norm, instance_norm: axis 1 meets weight, bias, running mean and running variance."""
    channel = at.same(x.axes[1], *(each.axes[0] for each in arguments if isinstance(each, Followed)))
    return (x.axes[0], channel, *x.axes[2:])


def prelu(at: Site, x: Followed, weight: Followed) -> Axes:
    """One slope for all, or one a channel on axis 1."""
    if weight.shape == (1,):
        at.keep(weight.axes, "one slope serves all channels")
        return x.axes
    return per_channel_norm(at, x, weight)


def layer_norm(at: Site, x: Followed, normalized_shape: Sequence[int], *arguments: Any) -> Axes:
    """Mean and variance over the last axes: without one channel, all others would change."""
    rank = len(normalized_shape)
    affine = [each.axes for each in arguments if isinstance(each, Followed)]
    kept = [at.same(*meeting) for meeting in zip(x.axes[-rank:], *affine, strict=True)]
    at.keep(kept, "it normalises over the channels, and each changes all others")
    return (*x.axes[:-rank], *kept)


def group_norm(at: Site, x: Followed, groups: int, *arguments: Any) -> Axes:
    """Statistics over groups of channels: as layer_norm, on axis 1."""
    axes = per_channel_norm(at, x, *arguments)
    at.keep(axes[1:2], "it normalises over groups of channels, and each changes the others of its group")
    return axes


def elementwise(at: Site, *operands: Any, **_: Any) -> Axes:
    """Axes of equal size meet index by index; one of size 1 is repeated and has nothing to remove."""
    tensors = [each for each in operands if isinstance(each, Followed)]
    axes: list[Axis] = []
    for axis in range(-len(at.shape), 0):
        present = [each for each in tensors if len(each.shape) >= -axis]
        meeting = [each.axes[axis] for each in present if each.shape[axis] == at.shape[axis]]
        at.keep([each.axes[axis] for each in present if each.shape[axis] != at.shape[axis]], "it is repeated")
        axes.append(at.same(*meeting))
    return tuple(axes)


def pass_through(at: Site, x: Followed, *_: Any, **__: Any) -> Axes:
    """Every element by itself: activations, dropout, casts and copies."""
    return x.axes


def along(at: Site, x: Followed, dim: int, *_: Any, **__: Any) -> Axes:
    """softmax, log_softmax: every index of the axis `dim` depends on all others."""
    at.keep([x.axes[dim]], "every channel depends on all others")
    return x.axes


def reduction(at: Site, x: Followed, dim: int | Sequence[int] | None = None, keepdim: bool = False, **_: Any) -> Axes:
    """mean, sum, amax and their like: fine over positions, not over channels."""
    chosen = range(len(x.shape)) if dim is None else [dim] if isinstance(dim, int) else dim
    gone = {each % len(x.shape) for each in chosen}
    at.keep([x.axes[axis] for axis in gone], "it reduces over the channels")
    kept = [None if axis in gone else ids for axis, ids in enumerate(x.axes) if keepdim or axis not in gone]
    return tuple(kept)


def spatial(at: Site, x: Followed, *_: Any, **__: Any) -> Axes:
    """Pooling and resizing (batch, channels, positions...): positions change, channels pass."""
    at.keep(x.axes[2:], "it mixes positions")
    return (*x.axes[:2], *[None] * (len(at.shape) - 2))


def embedding(at: Site, weight: Followed, indices: Followed, *_: Any) -> Axes:
    """Rows looked up by number: columns are the channels."""
    at.channels.produce(weight.axes[1])
    return (*indices.axes, weight.axes[1])


def matmul(at: Site, a: Followed, b: Followed) -> Axes:
    """(..., m, k) x (..., k, n): the two k meet, m and n stay apart, leading axes broadcast."""
    if min(len(a.shape), len(b.shape)) < 2:
        return unknown(at, a, b)
    at.same(a.axes[-1], b.axes[-2])
    return (*_leading(at, a, b), a.axes[-2], b.axes[-1])


def attention(at: Site, query: Followed, key: Followed, value: Followed, *rest: Any, **options: Any) -> Axes:
    """softmax(query keyT / sqrt(d)) value on (..., heads, length, d): heads meet, d stays, for it sets the scale."""
    at.keep([query.axes[-1], key.axes[-1]], "the width of a head sets the scale of its scores")
    at.keep([key.axes[-2], value.axes[-2]], "every position depends on all others")
    mask = [each for each in (*rest, *options.values()) if isinstance(each, Followed)]
    for each in mask:
        at.keep(each.axes, "it masks attention")
    return (*_leading(at, query, key, value), query.axes[-2], value.axes[-1])


def _leading(at: Site, *operands: Followed) -> Axes:
    """Broadcast all axes but the last two, as elementwise operators do."""
    stacks = [Followed(each.shape[:-2], each.axes[:-2]) for each in operands]
    return elementwise(Site(at.channels, at.operator, at.module, at.shape[:-2]), *stacks)
