"""What modules remember beside their tensors: widths, numbers of groups and heads. They follow the cut tensors."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

LAYER_SIZES: dict[str, dict[str, tuple[str, int]]] = {
    "Linear": {"out_features": ("weight", 0), "in_features": ("weight", 1)},
    "NonDynamicallyQuantizableLinear": {"out_features": ("weight", 0), "in_features": ("weight", 1)},
    "Embedding": {"embedding_dim": ("weight", 1)},
    "Conv1d": {"out_channels": ("weight", 0)},
    "Conv2d": {"out_channels": ("weight", 0)},
    "Conv3d": {"out_channels": ("weight", 0)},
    "ConvTranspose1d": {"in_channels": ("weight", 0)},
    "ConvTranspose2d": {"in_channels": ("weight", 0)},
    "ConvTranspose3d": {"in_channels": ("weight", 0)},
    "BatchNorm1d": {"num_features": ("running_mean", 0)},
    "BatchNorm2d": {"num_features": ("running_mean", 0)},
    "BatchNorm3d": {"num_features": ("running_mean", 0)},
    "InstanceNorm1d": {"num_features": ("weight", 0)},
    "InstanceNorm2d": {"num_features": ("weight", 0)},
    "InstanceNorm3d": {"num_features": ("weight", 0)},
    "GroupNorm": {"num_channels": ("weight", 0)},
    "PReLU": {"num_parameters": ("weight", 0)},
    "LSTM": {"input_size": ("weight_ih_l0", 1), "hidden_size": ("weight_hh_l0", 1)},
    "GRU": {"input_size": ("weight_ih_l0", 1), "hidden_size": ("weight_hh_l0", 1)},
    "RNN": {"input_size": ("weight_ih_l0", 1), "hidden_size": ("weight_hh_l0", 1)},
    "LSTMCell": {"input_size": ("weight_ih", 1), "hidden_size": ("weight_hh", 1)},
    "GRUCell": {"input_size": ("weight_ih", 1), "hidden_size": ("weight_hh", 1)},
    "RNNCell": {"input_size": ("weight_ih", 1), "hidden_size": ("weight_hh", 1)},
    "Conv1D": {"nx": ("weight", 0), "nf": ("weight", 1)},
}
"""Layer's class name -> the attribute that repeats a size of one of its tensors. Conv1D is transformers' (GPT-2)."""

HEADS = (
    "num_attention_heads",
    "num_heads",
    "n_heads",
    "n_head",
    "heads",
    "num_key_value_heads",
    "num_kv_heads",
    "n_kv_heads",
)
HEAD_WIDTHS = ("all_head_size", "inner_dim", "split_size")
"""Attributes of attention modules that shrink with the heads: how many there are, and how wide all are together."""

Sizes = Mapping[str, int]


def sizes_of(module: nn.Module) -> Sizes:
    """The attributes of a module that a cut may have to change, and the rows of its weight."""
    names = (*HEADS, *HEAD_WIDTHS, "head_dim", "in_channels", "out_channels", "groups", "num_groups", "num_channels")
    sizes = {name: getattr(module, name) for name in names if isinstance(getattr(module, name, None), int)}
    return sizes | {"rows": _rows(module)}


def update_sizes(model: nn.Module, before: Mapping[str, Sizes], removed: Mapping[str, Collection[int]]) -> None:
    """Make every module's attributes those of its tensors.

    Args:
        before: path -> `sizes_of` before the cut.
        removed: path of a layer -> the outputs that it lost.
    """
    for path, module in model.named_modules():
        _update_layer(module, before[path])
        _update_heads(module, path, before, removed)


def rescale_rms_norms(model: nn.Module, kept: dict[int, Tensor]) -> None:
    """Keep x / sqrt(S / D + eps) * w what it was where D channels became fewer and the sum of squares S did not.

    With D' channels left that is x / sqrt(S / D' + eps * D / D') * w * sqrt(D / D').

    Args:
        kept: id of a tensor before the cut -> the tensor after it; weights of norms are replaced.
    """
    scaled: dict[int, Tensor] = {}
    for module in model.modules():
        if isinstance(module, nn.RMSNorm) and isinstance(module.weight, Tensor):
            old, new = module.weight, kept.get(id(module.weight), module.weight)
            if old.numel() != new.numel():
                ratio = old.numel() / new.numel()
                weight = new.detach() * math.sqrt(ratio)
                scaled.setdefault(id(old), nn.Parameter(weight, old.requires_grad))
                eps = torch.finfo(old.dtype).eps if module.eps is None else module.eps
                module.eps = eps * ratio
                module.normalized_shape = (new.numel(),)
    kept.update(scaled)


def output_axis(module: nn.Module) -> int:
    """The axis of a linear layer's weight that is its output; transformers' Conv1D keeps it transposed."""
    return 1 if type(module).__name__ == "Conv1D" else 0


def _rows(module: nn.Module) -> int:
    """Output width of a linear layer, else 0."""
    weight = getattr(module, "weight", None)
    return int(weight.shape[output_axis(module)]) if isinstance(weight, Tensor) and weight.dim() == 2 else 0


def _update_layer(module: nn.Module, before: Sizes) -> None:
    for attribute, (tensor, dim) in LAYER_SIZES.get(type(module).__name__, {}).items():
        owned = getattr(module, tensor, None)
        if isinstance(owned, Tensor) and isinstance(getattr(module, attribute, None), int):
            setattr(module, attribute, owned.shape[dim])
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        rows, columns = module.weight.shape[:2]
        module.groups = rows * before["groups"] // before["out_channels"] if before["groups"] > 1 else 1
        module.in_channels = columns * module.groups
    elif isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        rows, columns = module.weight.shape[:2]
        module.groups = rows * before["groups"] // before["in_channels"] if before["groups"] > 1 else 1
        module.out_channels = columns * module.groups
    elif isinstance(module, nn.GroupNorm):
        module.num_groups = before["num_groups"] * module.num_channels // before["num_channels"]


def _update_heads(
    module: nn.Module, path: str, before: Mapping[str, Sizes], removed: Mapping[str, Collection[int]]
) -> None:
    """As a projection shrank by whole heads, so did the number of heads."""
    heads = next((before[path][name] for name in HEADS if name in before[path]), 0)
    for name, child in module.named_children():
        inner = f"{path}.{name}" if path else name
        old, new = before[inner]["rows"], _rows(child)
        if heads and new < old and _are_heads(removed.get(inner, ()), before[path].get("head_dim", 0), old, heads):
            for attribute in (*HEADS, *HEAD_WIDTHS):
                if attribute in before[path]:
                    setattr(module, attribute, before[path][attribute] * new // old)
            return


def _are_heads(rows: Collection[int], width: int, size: int, heads: int) -> bool:
    """Whether rows are whole heads of a projection of `size` rows: of queries, or of queries, keys and values."""
    widths = [width] if width else [size // heads, size // (3 * heads)]
    gone = set(rows)
    return bool(gone) and any(
        each > 0 and all(gone.issuperset(range(row - row % each, row - row % each + each)) for row in gone)
        for each in widths
    )
