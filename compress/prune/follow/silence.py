"""Where a channel is removed, is the tensor zero in the model whose parameters are zero there?

Layers that read a channel through weights need not ask: those weights are zero, too. Sums over channels without
weights must: the scores of attention, sums of squares. relu(0) is 0, sigmoid(0) is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from compress.prune.follow.site import Axes, Followed, followed

Arguments = Sequence[Any]


def is_silent(operator: str, arguments: Arguments, options: Mapping[str, Any], axes: Axes) -> bool:
    """Whether the result is zero where channels are removed along `axes`, its own. False where that is not known."""
    rule = SILENT.get(operator)
    return rule is not None and rule(arguments, options, axes)


def _same(arguments: Arguments, options: Mapping[str, Any], axes: Axes) -> bool:
    """f(0) = 0, or elements only change their places."""
    return all(each.silent for each in followed(list(arguments)) if each.followed)


def _sum(arguments: Arguments, options: Mapping[str, Any], axes: Axes) -> bool:
    """0 + 0, every summand with all the channels."""
    tensors = list(followed(list(arguments)))
    numbers = [each for each in arguments if isinstance(each, int | float)]
    return not any(numbers) and all(each.silent and _carries(each, axes) for each in tensors)


def _product(arguments: Arguments, options: Mapping[str, Any], axes: Axes) -> bool:
    """0 times anything."""
    silent = [each for each in followed(list(arguments)) if each.silent]
    return all(
        axis is None or any(_carries_at(each, place - len(axes)) for each in silent) for place, axis in enumerate(axes)
    )


def _matmul(arguments: Arguments, options: Mapping[str, Any], axes: Axes) -> bool:
    """Rows of the first, columns of the second, all else of either."""
    a, b = arguments
    rows = Followed(a.shape, (*a.axes[:-1], None), a.silent)
    columns = Followed(b.shape, (*b.axes[:-2], None, b.axes[-1]), b.silent)
    return _product((rows, columns), options, axes)


def _first(arguments: Arguments, options: Mapping[str, Any], axes: Axes) -> bool:
    """0 divided by anything; and what has the shape of another tensor, but nothing of its values."""
    return _product(arguments[:1], options, axes)


def _layer(arguments: Arguments, options: Mapping[str, Any], axes: Axes) -> bool:
    """x, weight, bias: zero rows give zeros; channels on the other axes need zeros and no bias."""
    x, parameters = arguments[0], [each for each in arguments[1:3] if isinstance(each, Followed)]
    elsewhere = any(axis is not None for place, axis in enumerate(x.axes) if place != len(x.axes) - 1)
    zero_rows = all(each.silent for each in parameters)
    return zero_rows and (not elsewhere or (x.silent and len(parameters) == 1))


def _convolution(arguments: Arguments, options: Mapping[str, Any], axes: Axes) -> bool:
    x, parameters = arguments[0], [each for each in arguments[1:3] if isinstance(each, Followed)]
    return all(each.silent for each in parameters) and x.axes[0] is None


def _channel_norm(arguments: Arguments, options: Mapping[str, Any], axes: Axes) -> bool:
    """Scale and shift are zero; without them, zero minus the zero mean."""
    affine = arguments[2:4] if isinstance(arguments[1], int) else arguments[1:3]  # group_norm: after the groups
    scaled = len(affine) == 2 and all(isinstance(each, Followed) for each in affine)
    others = any(axis is not None for place, axis in enumerate(axes) if place != 1)
    known = all(each.silent for each in followed(list(arguments[1:])))
    return not others and known and (scaled or bool(arguments[0].silent))


def _last_norm(arguments: Arguments, options: Mapping[str, Any], axes: Axes) -> bool:
    """Of zeros, without a bias."""
    parameters = [each for each in arguments[1:] if isinstance(each, Followed)]
    return bool(arguments[0].silent) and len(parameters) <= 1


def _lookup(arguments: Arguments, options: Mapping[str, Any], axes: Axes) -> bool:
    return bool(arguments[0].silent)


def _attention(arguments: Arguments, options: Mapping[str, Any], axes: Axes) -> bool:
    """Weights times values."""
    value = arguments[2]
    return bool(value.silent) and _carries(value, axes)


def _pad(arguments: Arguments, options: Mapping[str, Any], axes: Axes) -> bool:
    given = [*arguments[2:], *options.values()]
    return bool(arguments[0].silent) and not any(isinstance(each, int | float) and each != 0 for each in given)


def _bounded(arguments: Arguments, options: Mapping[str, Any], axes: Axes) -> bool:
    """clamp, hardtanh: zero lies between the bounds."""
    low, high, *_ = [*arguments[1:], None, None]
    low, high = options.get("min", low), options.get("max", high)
    numbers = all(each is None or isinstance(each, int | float) for each in (low, high))
    return bool(arguments[0].silent) and numbers and (low is None or low <= 0) and (high is None or high >= 0)


def _power(arguments: Arguments, options: Mapping[str, Any], axes: Axes) -> bool:
    x, exponent = arguments
    return isinstance(x, Followed) and x.silent and isinstance(exponent, int | float) and exponent > 0


def _filled(arguments: Arguments, options: Mapping[str, Any], axes: Axes) -> bool:
    x, mask, value = arguments
    return bool(x.silent) and not mask.followed and isinstance(value, int | float) and value == 0


def _chosen(arguments: Arguments, options: Mapping[str, Any], axes: Axes) -> bool:
    """where: both sides are zero."""
    sides = arguments[1:]
    return all(isinstance(each, Followed) and each.silent and _carries(each, axes) for each in sides)


def _recurrent(arguments: Arguments, options: Mapping[str, Any], axes: Axes) -> bool:
    """A unit whose state starts at zero and whose candidate is tanh(0)."""
    return all(each.silent or each.made_in for each in followed(list(arguments[1:])))


def _carries(tensor: Followed, axes: Axes) -> bool:
    return all(axis is None or _carries_at(tensor, place - len(axes)) for place, axis in enumerate(axes))


def _carries_at(tensor: Followed, place: int) -> bool:
    return len(tensor.axes) >= -place and tensor.axes[place] is not None


def _names(text: str) -> list[str]:
    return text.split()


_SAME = _names(
    "relu relu6 leaky_relu elu selu celu gelu silu mish hardswish tanh abs neg sign sqrt square "
    "sin asin atan sinh asinh erf expm1 log1p round floor ceil trunc prelu dropout feature_dropout alpha_dropout "
    "contiguous clone detach alias to _to_copy type_as mean sum amax amin linalg_vector_norm cumsum "
    "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d avg_pool1d "
    "avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d upsample_bilinear2d upsample_nearest2d cat concat stack "
    "unbind chunk split split_with_sizes slice narrow select index_select index view reshape _unsafe_view flatten "
    "unflatten transpose swapaxes t numpy_T permute movedim unsqueeze squeeze expand repeat repeat_interleave roll "
    "flip glu pixel_shuffle pixel_unshuffle channel_shuffle einsum"
)

SILENT: dict[str, Callable[[Arguments, Mapping[str, Any], Axes], bool]] = {
    **dict.fromkeys(_SAME, _same),
    **dict.fromkeys(("add", "sub", "rsub", "maximum", "minimum"), _sum),
    **dict.fromkeys(("matmul", "bmm"), _matmul),
    "mul": _product,
    **dict.fromkeys(("div", "expand_as"), _first),
    "linear": _layer,
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _convolution),
    **dict.fromkeys(("batch_norm", "instance_norm", "group_norm"), _channel_norm),
    **dict.fromkeys(("layer_norm", "rms_norm"), _last_norm),
    "embedding": _lookup,
    "scaled_dot_product_attention": _attention,
    **dict.fromkeys(("pad", "constant_pad_nd"), _pad),
    **dict.fromkeys(("clamp", "hardtanh"), _bounded),
    "pow": _power,
    "masked_fill": _filled,
    "where": _chosen,
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell"), _recurrent),
}
"""Operator -> whether its result is silent. What is not here is not."""
