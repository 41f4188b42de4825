"""Which module of the torch model a node of the exported one comes from: nodes are numbered, weights keep their paths."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_PARAMETER = re.compile(r"(.+)\.(weight|bias|weight_bias|(weight|bias)_[ih]h_l\d+_onnx)")
"""The last ones are those that export.recurrent puts together for a recurrent layer."""


def module_names(model: onnx.ModelProto) -> dict[str, str]:
    """Node -> path of its module, from the name of its weight; where that has none, from the bias that is added behind it."""
    constants = {tensor.name for tensor in model.graph.initializer}
    added = {
        node.input[index]: _path(node.input[1 - index], constants)
        for node in model.graph.node
        if node.op_type == "Add"
        for index in (0, 1)
    }
    found: dict[str, str] = {}
    for node in model.graph.node:
        paths = [_path(name, constants) for name in node.input]
        path = next(filter(None, [*paths, *(added.get(name, "") for name in node.output)]), "")
        if path:
            found[node.name] = path
    return found


def _path(name: str, constants: set[str]) -> str:
    found = _PARAMETER.fullmatch(name)
    return found[1] if found and name in constants else ""
