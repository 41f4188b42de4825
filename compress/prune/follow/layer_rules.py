"""Rules of layers with weights, of arithmetic element by element, of reductions and pooling. See rules.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from compress.prune.channels import Axis, Ids
from compress.prune.follow.site import Axes, Followed, Site, unknown


def linear(at: Site, x: Followed, weight: Followed, bias: Followed | None = None) -> Axes:
    """y[..., o] = bias[o] + sum of weight[o, i] x[..., i]: inputs meet columns, rows are the new channels."""
    at.contracted(x, weight, (-1, 1))
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
    """weight (out, in / groups, kernel...): one group is like linear; of several, each goes as a whole."""
    if len(x.shape) != len(weight.shape):
        return unknown(at, x, weight, bias)
    at.keep(x.axes[2:], "it mixes positions")
    rows = weight.axes[0] if bias is None else at.same(weight.axes[0], bias.axes[0])
    if groups == 1:
        at.contracted(x, weight, (1, 1))
        at.channels.produce(rows)
    elif rows is not None:
        at.same(_leaders(at, x.axes[1], groups), at.whole(rows, groups))
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
    if len(x.shape) != len(weight.shape):
        return unknown(at, x, weight, bias)
    at.keep(x.axes[2:], "it mixes positions")
    out = weight.axes[1]
    if groups == 1:
        at.contracted(x, weight, (1, 0))
        at.channels.produce(weight.axes[1])
    elif weight.axes[0] is not None:
        inputs = at.same(x.axes[1], weight.axes[0])
        leaders = _leaders(at, inputs, groups)
        out = None if leaders is None else np.repeat(leaders, weight.shape[1])
    out = out if bias is None else at.same(out, bias.axes[0])
    return (x.axes[0], out, *[None] * (len(x.shape) - 2))


def prelu(at: Site, x: Followed, weight: Followed) -> Axes:
    """One slope for all, or one a channel on axis 1."""
    if weight.shape == (1,):
        at.keep(weight.axes, "one slope serves all channels")
        return x.axes
    return (x.axes[0], at.same(x.axes[1], weight.axes[0]), *x.axes[2:])


def embedding(at: Site, weight: Followed, indices: Followed, *_: Any) -> Axes:
    """Rows looked up by number: columns are the channels."""
    at.channels.produce(weight.axes[1])
    return (*indices.axes, weight.axes[1])


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


def division(at: Site, x: Followed, by: Any, **options: Any) -> Axes:
    """As elementwise; where a channel is removed from a silent divisor, the zeroed model has 0 / 0."""
    if isinstance(by, Followed) and by.silent:
        at.keep(by.axes, "it would divide by zero")
    return elementwise(at, x, by, **options)


def power(at: Site, x: Any, exponent: Any) -> Axes:
    """As elementwise; a negative power of zero is infinite."""
    if not (isinstance(exponent, int | float) and exponent > 0):
        at.keep(
            [axis for each in (x, exponent) if isinstance(each, Followed) and each.silent for axis in each.axes],
            "zero may not be raised to it",
        )
    return elementwise(at, x, exponent)


def of_nonzero(at: Site, x: Followed, *_: Any, **__: Any) -> Axes:
    """rsqrt, reciprocal, log: each element by itself, but none may be zero."""
    if x.silent:
        at.keep(x.axes, "it is infinite at zero")
    return x.axes


def pass_through(at: Site, x: Followed, *_: Any, **__: Any) -> Axes:
    """Every element by itself: activations, dropout, casts and copies."""
    return x.axes


def like_another(at: Site, x: Followed, other: Followed) -> Axes:
    """expand_as: only the other's shape is used."""
    return elementwise(at, x, Followed(other.shape, other.axes))


def reduction(at: Site, x: Followed, dim: int | Sequence[int] | None = None, keepdim: bool = False, **_: Any) -> Axes:
    """mean, amax and their like: fine over positions, not over channels."""
    gone = _reduced(x, dim)
    at.keep([x.axes[axis] for axis in gone], "it reduces over the channels")
    kept = [None if axis in gone else ids for axis, ids in enumerate(x.axes) if keepdim or axis not in gone]
    return tuple(kept)


def total(at: Site, x: Followed, dim: int | Sequence[int] | None = None, keepdim: bool = False, **_: Any) -> Axes:
    """sum: as the other reductions, but zeros may leave it."""
    gone = _reduced(x, dim)
    if not x.silent:
        at.keep([x.axes[axis] for axis in gone], "it sums over channels that need not be zero where they are removed")
    return tuple(None if axis in gone else ids for axis, ids in enumerate(x.axes) if keepdim or axis not in gone)


def length(at: Site, x: Followed, order: float = 2, dim: Any = None, keepdim: bool = False, **options: Any) -> Axes:
    """linalg_vector_norm: the root of a sum."""
    return (total if order > 0 else reduction)(at, x, dim, keepdim)


def spatial(at: Site, x: Followed, *_: Any, **__: Any) -> Axes:
    """Pooling and resizing (batch, channels, positions...): positions change, channels pass."""
    at.keep(x.axes[2:], "it mixes positions")
    return (*x.axes[:2], *[None] * (len(x.shape) - 2))


def _leaders(at: Site, inputs: Axis, groups: int) -> Ids | None:
    return None if inputs is None else at.whole(inputs, groups)


def _reduced(x: Followed, dim: int | Sequence[int] | None) -> set[int]:
    chosen = range(len(x.shape)) if dim is None or dim == () else [dim] if isinstance(dim, int) else dim
    return {each % len(x.shape) for each in chosen}
