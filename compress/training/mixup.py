"""Mixed samples: what lies between two samples of the data, where no label says the answer and a teacher does.

Source: Zhang et al. 2018, arXiv:1710.09412, equation 1 for the inputs; that a teacher answers for them, and no label, is
the function matching of Beyer et al. 2021, arXiv:2106.05237, section 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from compress.workload import Batch
from export.errors import InputError


def mixed(batch: Batch, most: float) -> Batch:
    """Each sample with a share of another one of its batch in it, drawn evenly from 0 to `most`; 0 leaves the batch as it is.

    All inputs of a sample get the same share of the same other sample. The target stays the first one's.
    """
    if most == 0:
        return batch
    inputs, target = batch
    share, other = torch.rand(len(target)) * most, torch.randperm(len(target))
    return {name: _between(tensor, tensor[other], share) for name, tensor in inputs.items()}, target


def check_mixable(inputs: Mapping[str, Tensor]) -> None:
    """Refuse what has no middle.

    Raises:
        InputError: names the inputs that are not floating point.
    """
    types = {name: str(tensor.dtype) for name, tensor in inputs.items() if not tensor.is_floating_point()}
    whole = ", ".join(f"{name} ({dtype.removeprefix('torch.')})" for name, dtype in types.items())
    if whole:
        raise InputError(
            f"distill: mixup goes half way between two samples, and {whole} has nothing there; leave mixup out"
        )


def _between(one: Tensor, other: Tensor, share: Tensor) -> Tensor:
    return torch.lerp(one, other, share.to(one.dtype).reshape(-1, *[1] * (one.ndim - 1)))
