"""The ONNX operators that move, cut and join tensors without computing with them. See operators.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Attributes = Mapping[str, Any]
"""Of a node, as `onnx.helper.get_attribute_value` reads them."""


def reshape(attributes: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    sizes = shape.tolist()
    if not attributes.get("allowzero", 0):
        sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return x.reshape(sizes)


def flatten(attributes: Attributes, x: Tensor) -> Tensor:
    axis = attributes.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(x.shape[:axis].numel(), x.shape[axis:].numel())


def transpose(attributes: Attributes, x: Tensor) -> Tensor:
    return x.permute(*attributes.get("perm", reversed(range(x.ndim))))


def slice_(
    attributes: Attributes,
    x: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    first, last = starts.tolist(), ends.tolist()
    along = list(range(len(first))) if axes is None else axes.tolist()
    by = [1] * len(first) if steps is None else steps.tolist()
    for axis, *bounds in zip(along, first, last, by, strict=True):
        start, end, step = slice(*bounds).indices(x.shape[axis])
        if step > 0:
            x = x[(slice(None),) * (axis % x.ndim) + (slice(start, max(start, end), step),)]
        else:
            x = x.index_select(axis, torch.arange(start, end, step, device=x.device))
    return x


def split(attributes: Attributes, x: Tensor, sizes: Tensor | None = None) -> Sequence[Tensor]:
    axis = attributes.get("axis", 0)
    given = attributes.get("split") if sizes is None else sizes.tolist()
    parts: Sequence[Tensor] = torch.split(x, given or -(-x.shape[axis] // attributes["num_outputs"]), axis)
    return parts


def gather(attributes: Attributes, x: Tensor, indices: Tensor) -> Tensor:
    axis = attributes.get("axis", 0) % x.ndim
    rows = torch.where(indices < 0, indices + x.shape[axis], indices).long()
    return x.index_select(axis, rows.flatten()).reshape(*x.shape[:axis], *rows.shape, *x.shape[axis + 1 :])


def unsqueeze(attributes: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    given = attributes["axes"] if axes is None else axes.tolist()
    for axis in sorted(axis % (x.ndim + len(given)) for axis in given):
        x = x.unsqueeze(axis)
    return x


def squeeze(attributes: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    given = attributes.get("axes") if axes is None else axes.tolist()
    return x.squeeze() if given is None else x.squeeze(tuple(given))


def pad(
    attributes: Attributes, x: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None
) -> Tensor:
    sides, along = pads.tolist(), list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in axes.tolist()]
    by_axis = {axis: (sides[at], sides[at + len(along)]) for at, axis in enumerate(along)}
    mode = {b"constant": "constant", b"reflect": "reflect", b"edge": "replicate", b"wrap": "circular"}[
        attributes.get("mode", b"constant")
    ]
    padded = range(x.ndim) if mode == "constant" else range(2, x.ndim)  # torch mirrors spatial axes only
    both = [side for axis in reversed(padded) for side in by_axis.get(axis, (0, 0))]
    if mode != "constant":
        return functional.pad(x, both, mode)
    return functional.pad(x, both, value=0.0 if value is None else value.item())


def shape(attributes: Attributes, x: Tensor) -> Tensor:
    shape = tuple(x.shape)[attributes.get("start", 0) : attributes.get("end", None)]
    return torch.tensor(shape, dtype=torch.int64, device=x.device)


def constant_of_shape(attributes: Attributes, shape: Tensor) -> Tensor:
    from onnx import numpy_helper

    value = torch.from_numpy(numpy_helper.to_array(attributes["value"]).copy()) if "value" in attributes else None
    value = torch.zeros(1) if value is None else value
    return value.to(shape.device).expand(shape.tolist())


def expand(attributes: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, shape.tolist()))  # type: ignore[no-untyped-call]


def depth_to_space(attributes: Attributes, x: Tensor) -> Tensor:
    size = attributes["blocksize"]
    if attributes.get("mode", b"DCR") == b"DCR":
        batch, channels, height, width = x.shape
        blocks = x.reshape(batch, size, size, channels // size**2, height, width)
        return blocks.permute(0, 3, 4, 1, 5, 2).reshape(batch, channels // size**2, height * size, width * size)
    return functional.pixel_shuffle(x, size)
