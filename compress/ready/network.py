"""A network of the user's own: `model: FILE.py:FUNCTION`, with or without a file of weights."""

from __future__ import annotations

from torch import nn

from compress.checkpoint import load_weights
from compress.ready import ReadyContext
from compress.user_code import called

OPTION = "model"


def is_function(model: str) -> bool:
    """Whether it names a function, and not a folder."""
    return ":" in model


def own_network(model: str, weights: str | None, context: ReadyContext) -> nn.Module:
    """What the function (or the class) returns for the recipe's arguments, with the weights.

    Raises:
        InputError: if it is no network, or the weights do not fit.
    """
    where = f"{context.where(OPTION)}: {model}"
    network = called(model, context.folder, context.arguments, where)
    if not isinstance(network, nn.Module):
        raise context.refusal(OPTION, f"{model} must return a torch.nn.Module, returned {type(network).__name__}")
    if weights is not None:
        load_weights(network, context.existing("weights", weights, "a .safetensors file or one of torch.save"))
    return network.eval()


def no_arguments(context: ReadyContext, weights: str | None = None) -> None:
    """Refuse what only a function could be given."""
    if context.arguments:
        raise context.refusal(
            OPTION,
            "the recipe's arguments go to a function FILE.py:FUNCTION, and this is a folder; remove `arguments:`",
        )
    if weights is not None:
        raise context.refusal("weights", "a folder brings its own weights; remove the line")
