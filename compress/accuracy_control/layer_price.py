"""The milliseconds of single layers, from the runtime's own profile of an engine."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from compress.accuracy_control.dynamic_layers import RECURRENT, float_names
from export.model import OnnxModel
from targets import LayerTime

_PRODUCT = re.compile("Conv|MatMul|Gemm|FullyConnected")


def layer_seconds(times: Iterable[LayerTime], model: OnnxModel) -> dict[str, float]:
    """Seconds of each node of the model that was compiled, as far as kernels go by its name or its output's."""
    names = _names(model)
    found: dict[str, float] = {}
    for time in times:
        node = _node_of(time.name, names)
        if node is not None:
            found[node] = found.get(node, 0.0) + time.time_s
    return found


def prices(layers: Iterable[str], before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float | None]:
    """Seconds a call that each layer takes more after than before; None where a profile does not tell."""
    return {layer: after[layer] - before[layer] if layer in before and layer in after else None for layer in layers}


def in_float_anyway(times: Sequence[LayerTime], quantized: Collection[str], model: OnnxModel) -> set[str]:
    """Quantized layers that the runtime runs in float, since the pair behind them is gone.

    ONNX Runtime needs 8 bits behind a convolution as well as before it. Such a layer only dequantizes its weights at each
    call: 0.100 ms where the convolution itself takes 0.062 (ResNet-20, 1.31, Zen 3). OpenVINO's convolutions write float too.
    """
    names = _names(model)
    in_float = {
        _node_of(time.name, names) for time in times if time.precision == "fp32" and _PRODUCT.search(time.operator)
    }
    return {layer for layer in quantized if layer in in_float}


def _names(model: OnnxModel) -> dict[str, str]:
    """Node or tensor -> the node that it names; a layer of dynamic INT8 goes by the name of the node that it was."""
    nodes = model.proto().graph.node
    names = {output: node.name for node in nodes for output in node.output} | {node.name: node.name for node in nodes}
    dynamic = [node.name for node in nodes if node.op_type in ("MatMulInteger", RECURRENT)]
    return names | {name: float_names(name)[-1] for name in dynamic}


def _node_of(kernel: str, names: Mapping[str, str]) -> str | None:
    """The longest name that a kernel's begins with: "node_Conv_380_token_4", "getitem_12_nchwc", "node_x/WithoutBiases"."""
    matching = [name for name in names if re.match(rf"{re.escape(name)}(?![A-Za-z0-9])", kernel)]
    return names[max(matching, key=len)] if matching else None
