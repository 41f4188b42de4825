"""The graph of a model in which channels are followed, and what its nodes are."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from torch import Tensor, fx, nn
from torch.export import ExportedProgram, export

from compress.prune.separate_attention import unfused
from export.errors import UnsupportedError


def traced(model: nn.Module, inputs: Mapping[str, Tensor]) -> ExportedProgram:
    """The model as torch.export sees it; in eval mode.

    Raises:
        UnsupportedError: it cannot be traced.
    """
    named = all(name in inspect.signature(model.forward).parameters for name in inputs)
    positional, keywords = ((), dict(inputs)) if named else (tuple(inputs.values()), {})
    try:
        with unfused():
            return export(model, positional, keywords, strict=False)
    except Exception as error:  # the tracer runs the user's forward and passes on whatever that raises
        raise UnsupportedError(
            f"prune: torch.export cannot trace {type(model).__name__}: {first_line(error)}. Channels are followed "
            "in the traced graph; keep Python decisions on tensor values out of forward, or drop the prune step"
        ) from error


def first_line(error: Exception) -> str:
    """The kind of an exception that the user's code raised, and the first line of what it said."""
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"


def operator_name(node: fx.Node) -> str:
    """`conv2d` for aten.conv2d.default and `add` for the in-place aten.add_; an operator of another library in full."""
    name = str(node.target)
    namespace, _, rest = name.partition(".")
    return rest.partition(".")[0].removesuffix("_") if namespace == "aten" else name


def modules_around(node: fx.Node) -> tuple[str, ...]:
    """Paths of the modules in whose call the node was met, the model's own, "", first."""
    stack: Mapping[str, tuple[str, object]] = node.meta.get("nn_module_stack") or {}
    return tuple(path for path, _ in stack.values())


def module_path(node: fx.Node) -> str:
    """The innermost of them; "" where there is none."""
    return (modules_around(node) or ("",))[-1]
