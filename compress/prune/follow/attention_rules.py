"""Rules of products of activations, and of what attention does between them. See rules.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from compress.prune.channels import Axis
from compress.prune.follow.layer_rules import elementwise
from compress.prune.follow.site import Axes, Followed, Site, unknown


def matmul(at: Site, a: Followed, b: Followed) -> Axes:
    """(..., m, k) x (..., k, n): the two k meet, m and n stay apart, leading axes broadcast."""
    if min(len(a.shape), len(b.shape)) < 2:
        return unknown(at, a, b)
    at.contracted(a, b, (-1, -2))
    return (*_leading(at, a, b), a.axes[-2], b.axes[-1])


def added_matmul(at: Site, added: Followed, a: Followed, b: Followed, **_: Any) -> Axes:
    """addmm, baddbmm: added + a b. With a weight for b it is a linear layer whose weight lies transposed."""
    product = Followed(at.shape, matmul(at, a, b))
    axes = elementwise(at, added, product)
    if len(b.shape) == 2:
        at.channels.produce(b.axes[1])
    return axes


def einsum(at: Site, equation: str, operands: Sequence[Followed], **_: Any) -> Axes:
    """Axes of one letter meet; a letter that the result lacks is summed over."""
    inputs, arrow, result = equation.replace(" ", "").partition("->")
    letters = inputs.split(",")
    if "." in equation or not arrow or any(len(set(each)) < len(each) for each in letters):
        return unknown(at, *operands)
    axes: dict[str, Axis] = {}
    for letter in dict.fromkeys("".join(letters)):
        owners = [
            (each, each.axes[own.index(letter)]) for own, each in zip(letters, operands, strict=True) if letter in own
        ]
        axes[letter] = at.same(*(axis for _, axis in owners))
        if letter not in result and not any(each.silent for each, _ in owners):
            at.keep([axes[letter]], "it sums over channels that need not be zero where they are removed")
    return tuple(axes[letter] for letter in result)


def attention(at: Site, query: Followed, key: Followed, value: Followed, *rest: Any, **options: Any) -> Axes:
    """softmax(query keyT / sqrt(d)) value on (..., heads, length, d): heads meet, d stays, for it sets the scale.

    With `enable_gqa` each head of key and value serves a run of query heads, and goes with them.
    """
    at.keep([query.axes[-1], key.axes[-1]], "the width of a head sets the scale of its scores")
    at.keep([key.axes[-2], value.axes[-2]], "every position depends on all others")
    masks = [each for each in (*rest, *options.values()) if isinstance(each, Followed)]
    for each in masks:
        at.keep(each.axes[-2:], "it masks attention")
    if options.get("enable_gqa"):
        key, value = (_repeated(each, query.shape[-3]) for each in (key, value))
    return (*_leading(at, query, key, value, *masks), query.axes[-2], value.axes[-1])


def along(at: Site, x: Followed, dim: int, *_: Any, **__: Any) -> Axes:
    """softmax, log_softmax, cumsum: every index of the axis `dim` depends on others."""
    at.keep([x.axes[dim]], "every channel depends on all others")
    return x.axes


def _leading(at: Site, *operands: Followed) -> Axes:
    """Broadcast all axes but the last two, as elementwise operators do."""
    stacks = [Followed(each.shape[:-2], each.axes[:-2]) for each in operands]
    return elementwise(Site(at.channels, at.operator, at.module, at.shape[:-2]), *stacks)


def _repeated(x: Followed, heads: int) -> Followed:
    shape, axes, times = list(x.shape), list(x.axes), heads // x.shape[-3]
    shape[-3] = heads
    ids = axes[-3]
    axes[-3] = None if ids is None else np.repeat(ids, times)
    return Followed(tuple(shape), tuple(axes), x.silent)
