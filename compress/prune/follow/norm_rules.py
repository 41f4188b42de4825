"""Rules of normalisations: over each channel by itself, over groups of channels, over all. See rules.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from compress.prune.follow.site import Axes, Followed, Site


def per_channel_norm(at: Site, x: Followed, *arguments: Any) -> Axes:
    """batch_norm in eval mode: axis 1 meets weight, bias, running mean and running variance."""
    channel = at.same(x.axes[1], *(each.axes[0] for each in arguments if isinstance(each, Followed)))
    return (x.axes[0], channel, *x.axes[2:])


def instance_norm(at: Site, x: Followed, *arguments: Any) -> Axes:
    """As per_channel_norm; statistics are taken over the positions."""
    at.keep(x.axes[2:], "it normalises over positions")
    return (*per_channel_norm(at, x, *arguments)[:2], *[None] * (len(x.shape) - 2))


def group_norm(at: Site, x: Followed, groups: int, *arguments: Any) -> Axes:
    """A group's statistics are its own, so whole groups go."""
    at.keep(x.axes[2:], "it normalises over positions")
    axes = per_channel_norm(at, x, *arguments)
    channel = axes[1]
    if channel is not None and groups == 1:
        at.keep([channel], "it normalises over the channels, and each changes all others")
    elif channel is not None and not (isinstance(at.owner, nn.GroupNorm) and at.owner.affine):
        at.keep([channel], f"the number of groups, {groups}, stands in the code")
    elif channel is not None:
        channel = np.repeat(at.whole(channel, groups), x.shape[1] // groups)
    return (axes[0], channel, *[None] * (len(x.shape) - 2))


def layer_norm(at: Site, x: Followed, normalized_shape: Sequence[int], *arguments: Any) -> Axes:
    """Mean and variance over the last axes: without one channel, all others would change."""
    kept = _affine(at, x, len(normalized_shape), arguments)
    at.keep(kept, "it normalises over the channels, and each changes all others")
    return (*x.axes[: -len(normalized_shape)], *kept)


def rms_norm(at: Site, x: Followed, normalized_shape: Sequence[int], *arguments: Any) -> Axes:
    """x / sqrt(S / D + eps) * w, S the sum of squares: zeros add nothing to S, and a smaller D is scaled out of
    eps and w (sizes.rescale_rms_norms). That takes an nn.RMSNorm with a weight, and zeros."""
    kept = _affine(at, x, len(normalized_shape), arguments)
    scalable = isinstance(at.owner, nn.RMSNorm) and at.owner.elementwise_affine and len(normalized_shape) == 1
    if not scalable:
        at.keep(kept, "it normalises over the channels, and is no nn.RMSNorm whose weight and epsilon can be scaled")
    elif not x.silent:
        at.keep(kept, "it normalises over channels that need not be zero where they are removed")
    return (*x.axes[: -len(normalized_shape)], *kept)


def _affine(at: Site, x: Followed, rank: int, arguments: Sequence[Any]) -> Axes:
    affine = [each.axes for each in arguments if isinstance(each, Followed)]
    return tuple(at.same(*meeting) for meeting in zip(x.axes[-rank:], *affine, strict=True))
