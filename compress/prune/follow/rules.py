"""What each ATen operator does to channels: a rule for each operator.

A rule is called with the operator's own arguments, every tensor replaced by a `Followed`, and returns the axes of
the result. On the way it says which ids belong together. An operator without a rule is not guessed at: what it
reads stays, and is named (`site.unknown`).
"""

from __future__ import annotations

from collections.abc import Callable

from compress.prune.follow import attention_rules, layer_rules, norm_rules, recurrent_rules, regroup_rules, shape_rules
from compress.prune.follow.site import Axes

Rule = Callable[..., Axes | list[Axes]]
"""(site, *arguments of the operator) -> axes of the result, or a list of them for several results."""


def _names(text: str) -> list[str]:
    return text.split()


RULES: dict[str, Rule] = {
    "linear": layer_rules.linear,
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), layer_rules.convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), layer_rules.transposed_convolution),
    "prelu": layer_rules.prelu,
    "embedding": layer_rules.embedding,
    "batch_norm": norm_rules.per_channel_norm,
    "instance_norm": norm_rules.instance_norm,
    "layer_norm": norm_rules.layer_norm,
    "rms_norm": norm_rules.rms_norm,
    "group_norm": norm_rules.group_norm,
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), recurrent_rules.recurrent),
    **dict.fromkeys(("lstm_cell", "gru_cell", "rnn_tanh_cell"), recurrent_rules.cell),
    **dict.fromkeys(("matmul", "bmm"), attention_rules.matmul),
    **dict.fromkeys(("addmm", "baddbmm"), attention_rules.added_matmul),
    "einsum": attention_rules.einsum,
    "scaled_dot_product_attention": attention_rules.attention,
    **dict.fromkeys(("softmax", "log_softmax", "cumsum"), attention_rules.along),
    **dict.fromkeys(("mean", "amax", "amin"), layer_rules.reduction),
    "sum": layer_rules.total,
    "linalg_vector_norm": layer_rules.length,
    **dict.fromkeys(
        _names("""
        adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
        avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d
        upsample_bilinear2d upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_bicubic2d
    """),
        layer_rules.spatial,
    ),
    **dict.fromkeys(("pad", "constant_pad_nd"), shape_rules.pad),
    **dict.fromkeys(("cat", "concat"), shape_rules.concatenation),
    "stack": shape_rules.stack,
    "unbind": shape_rules.unbind,
    "slice": shape_rules.slicing,
    "narrow": shape_rules.slicing,
    "select": shape_rules.select,
    "index_select": shape_rules.picked,
    "index": shape_rules.looked_up,
    **dict.fromkeys(("roll", "flip"), shape_rules.moved_along),
    **dict.fromkeys(("transpose", "swapaxes", "t"), shape_rules.transpose),
    "numpy_T": shape_rules.reverse,
    "permute": shape_rules.permute,
    "movedim": shape_rules.movedim,
    "unsqueeze": shape_rules.unsqueeze,
    "squeeze": shape_rules.squeeze,
    "repeat": shape_rules.tiled,
    "repeat_interleave": shape_rules.repeated,
    **dict.fromkeys(("view", "reshape", "_unsafe_view", "flatten", "unflatten"), regroup_rules.reshape),
    "chunk": regroup_rules.chunk,
    **dict.fromkeys(("split", "split_with_sizes"), regroup_rules.split),
    "glu": regroup_rules.gated_halves,
    "pixel_shuffle": regroup_rules.pixel_shuffle,
    "pixel_unshuffle": regroup_rules.pixel_unshuffle,
    "channel_shuffle": regroup_rules.channel_shuffle,
    **dict.fromkeys(
        _names("""
        add sub rsub mul maximum minimum where masked_fill clamp clamp_min clamp_max expand gt ge lt le eq ne
        logical_and logical_or logical_not
    """),
        layer_rules.elementwise,
    ),
    "expand_as": layer_rules.like_another,
    "div": layer_rules.division,
    "pow": layer_rules.power,
    **dict.fromkeys(("rsqrt", "reciprocal", "log"), layer_rules.of_nonzero),
    **dict.fromkeys(
        _names("""
        relu relu6 leaky_relu elu selu celu gelu silu mish softplus hardtanh hardswish hardsigmoid sigmoid log_sigmoid
        tanh abs neg sign exp expm1 log1p sqrt square erf sin cos asin atan sinh asinh
        round floor ceil trunc dropout feature_dropout alpha_dropout contiguous clone detach alias to _to_copy type_as
    """),
        layer_rules.pass_through,
    ),
}
"""Operator (aten, the in-place form without its underscore) -> rule."""
