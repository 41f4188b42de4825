"""How a model of any signature is called on named inputs, the same way everywhere."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping

from torch import Tensor, nn


def call(model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """Run the model on named inputs; always a tuple of its output tensors.

    Inputs go by keyword where all their names are parameters of `forward`, else by position.
    """
    parameters = inspect.signature(model.forward).parameters
    result = model(**inputs) if all(name in parameters for name in inputs) else model(*inputs.values())
    return as_tensors(result)


def as_tensors(result: object) -> tuple[Tensor, ...]:
    """The tensors of a model's result: a tensor, a tuple or list, or a mapping such as transformers' ModelOutput."""
    if isinstance(result, Tensor):
        return (result,)
    values: Iterable[object] = result.values() if isinstance(result, Mapping) else result  # type: ignore[assignment]
    return tuple(value for value in values if isinstance(value, Tensor))
