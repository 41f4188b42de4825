"""nn.MultiheadAttention in a form that can lose heads, and torch's fused ways around it shut.

nn.MultiheadAttention keeps query, key and value in one matrix, checks that its width is `embed_dim` and makes
`embed_dim / num_heads` the width of a head: no head can go from it as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, scaled_dot_product_attention


class SeparateAttention(nn.Module):
    """What nn.MultiheadAttention computes, from a linear layer each for queries, keys and values.

    Args:
        fused: without `bias_k`, `bias_v` and `add_zero_attn`; its out_proj is taken over.
    """

    in_proj_weight = None
    in_proj_bias = None  # nn.TransformerEncoderLayer takes its fused way only where there is one
    _qkv_same_embed_dim = False

    def __init__(self, fused: nn.MultiheadAttention) -> None:
        super().__init__()
        self.num_heads, self.head_dim = fused.num_heads, fused.head_dim
        self.batch_first, self.dropout = fused.batch_first, fused.dropout
        if fused.in_proj_weight is None:
            weights = [fused.q_proj_weight, fused.k_proj_weight, fused.v_proj_weight]
        else:
            weights = list(fused.in_proj_weight.chunk(3))
        biases = [None] * 3 if fused.in_proj_bias is None else list(fused.in_proj_bias.chunk(3))
        frozen = not any(parameter.requires_grad for parameter in fused.parameters())
        self.q_proj, self.k_proj, self.v_proj = map(_linear, weights, biases)  # heads follow the first
        for projection in (self.q_proj, self.k_proj, self.v_proj):
            projection.requires_grad_(not frozen)
        self.out_proj = fused.out_proj
        self.train(fused.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The result and the attention weights, or None for them; shapes and masks as nn.MultiheadAttention takes them."""
        if is_causal and attn_mask is None:
            raise RuntimeError("is_causal is a hint about attn_mask: give attn_mask too, as for nn.MultiheadAttention")
        batched = query.dim() == 3
        if not batched:
            query, key, value = query[None], key[None], value[None]
            key_padding_mask = None if key_padding_mask is None else key_padding_mask[None]
        elif not self.batch_first:
            query, key, value = query.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1)
        queries, keys, values = (
            self._heads(self.q_proj(query)),
            self._heads(self.k_proj(key)),
            self._heads(self.v_proj(value)),
        )
        chance = self.dropout if self.training else 0.0
        weights: Tensor | None = None
        if need_weights:
            scores = (queries * self.head_dim**-0.5) @ keys.transpose(-2, -1)
            mask = self._mask(attn_mask, key_padding_mask, scores.dtype)
            weights = torch.softmax(scores if mask is None else scores + mask, -1)
            weights = dropout(weights, chance) if chance else weights
            mixed = weights @ values
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            causal = is_causal and key_padding_mask is None
            mask = None if causal else self._mask(attn_mask, key_padding_mask, queries.dtype)
            mixed = scaled_dot_product_attention(queries, keys, values, mask, chance, causal)
        out = self.out_proj(mixed.transpose(1, 2).flatten(2))
        if not batched:
            return out[0], None if weights is None else weights[0]
        return out if self.batch_first else out.transpose(0, 1), weights

    def _heads(self, projected: Tensor) -> Tensor:
        """(batch, length, heads * width) -> (batch, heads, length, width)."""
        return projected.reshape(*projected.shape[:-1], -1, self.head_dim).transpose(1, 2)

    def _mask(self, attention: Tensor | None, padding: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """What is added to the scores (batch, heads, length, length). A boolean mask is True where nothing is read."""
        masks = []
        if attention is not None:
            per_head = attention.dim() == 3  # (batch * heads, length, length)
            masks.append(attention.reshape(-1, self.num_heads, *attention.shape[1:]) if per_head else attention)
        if padding is not None:
            masks.append(padding[:, None, None, :])
        added = [
            torch.zeros_like(mask, dtype=dtype).masked_fill(mask, float("-inf")) if mask.dtype == torch.bool else mask
            for mask in masks
        ]
        return sum(added[1:], added[0]) if added else None


def can_be_separated(module: nn.Module) -> bool:
    """Whether a module is torch's own attention without learned or zero keys besides those of the input."""
    return type(module) is nn.MultiheadAttention and module.bias_k is None and not module.add_zero_attn


def without_nested_tensors(model: nn.Module) -> None:
    """Keep every nn.TransformerEncoder from nested tensors, for which it asks its first layer for fused weights."""
    for each in model.modules():
        if isinstance(each, nn.TransformerEncoder):
            each.use_nested_tensor = False


@contextmanager
def unfused() -> Iterator[None]:
    """Inside, nn.TransformerEncoderLayer and nn.MultiheadAttention call their parts instead of one fused operator."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device=weight.device, dtype=weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer
