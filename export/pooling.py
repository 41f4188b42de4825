"""Pooling in a form that every runtime takes."""

from __future__ import annotations

import onnx

GLOBAL = {"AveragePool": "GlobalAveragePool", "MaxPool": "GlobalMaxPool"}


def simplify_pooling(graph: onnx.GraphProto) -> None:
    """A window that holds the whole image becomes global pooling, whatever the image's size.

    The EfficientNet of transformers averages over a window of 1,280 pixels a side and lets it end at the image's edge;
    OpenVINO refuses a window larger than what it looks at.

    Args:
        graph: with the shapes of its values in value_info.
    """
    shapes = {value.name: value.type.tensor_type.shape.dim for value in graph.value_info}
    for node in graph.node:
        given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type not in GLOBAL or len(node.output) != 1 or any(given.get("pads", ())):
            continue
        window = list(given["kernel_shape"])
        sides = [dim.dim_value for dim in shapes.get(node.input[0], ())][2:]  # 0 where a size is dynamic
        if len(sides) != len(window) or sides == window:
            continue
        if all(0 < side <= size for side, size in zip(sides, window, strict=True)):
            node.op_type = GLOBAL[node.op_type]
            node.ClearField("attribute")
