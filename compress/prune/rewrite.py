"""Modules that cannot become narrower as they are, in another form that computes the same.

nn.MultiheadAttention becomes separate projections. The root-mean-square norms that model libraries write out become
nn.RMSNorm, whose width and epsilon can be changed. Both before channels are followed; a plan names the places, so
that it can be applied to the original.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import torch
from torch import nn

from compress.prune.separate_attention import SeparateAttention, can_be_separated, without_nested_tensors
from export.errors import InputError


class PlainRmsNorm(nn.RMSNorm):
    """The nn.RMSNorm that stands for one that a library wrote out."""


REWRITTEN = (SeparateAttention, PlainRmsNorm)

EPSILONS = ("eps", "variance_epsilon", "epsilon")
"""What the written-out norms call it."""


def rewritable(model: nn.Module) -> tuple[str, ...]:
    """Paths of the modules that have such a form and share neither themselves nor parameters with others."""
    paths = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    owners = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    return tuple(
        path
        for path, module in model.named_modules()
        if path
        and paths[id(module)] == 1
        and all(owners[id(parameter)] == 1 for parameter in module.parameters())
        and (can_be_separated(module) or _as_rms_norm(module) is not None)
    )


def rewrite(model: nn.Module, paths: Iterable[str]) -> None:
    """Rewrite the modules at these paths, in place. What is rewritten already stays as it is.

    Raises:
        InputError: there is no such module, or it has no other form.
    """
    modules = dict(model.named_modules())
    for path in paths:
        module = modules.get(path)
        if module is None or not (isinstance(module, REWRITTEN) or path in rewritable(model)):
            raise InputError(
                f"pruning plan: {path!r}: the model has nothing to rewrite there; apply the plan to the model it was made from"
            )
    for path in paths:
        if not isinstance(modules[path], REWRITTEN):
            parent, _, name = path.rpartition(".")
            setattr(modules[parent], name, _rewritten(modules[path]))
    without_nested_tensors(model)


def rewritten_in(model: nn.Module) -> tuple[str, ...]:
    """Paths of the modules that are rewritten."""
    return tuple(path for path, module in model.named_modules() if isinstance(module, REWRITTEN))


def _rewritten(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.MultiheadAttention):
        return SeparateAttention(module)
    norm = _as_rms_norm(module)
    assert norm is not None
    return norm


def _as_rms_norm(module: nn.Module) -> PlainRmsNorm | None:
    """The same norm as nn.RMSNorm, if the module is named one, holds nothing but its weight, and computes the same."""
    named = type(module).__name__.endswith("RMSNorm") and not isinstance(module, nn.RMSNorm)
    eps = next((value for name in EPSILONS if isinstance(value := getattr(module, name, None), float)), None)
    owned = [*module.named_parameters(), *module.named_buffers(), *module.named_children()]
    if not named or eps is None or [name for name, _ in owned] != ["weight"]:
        return None
    weight = module.get_parameter("weight")
    if weight.dim() != 1:
        return None
    norm = PlainRmsNorm(weight.shape[0], eps, dtype=weight.dtype, device=weight.device)
    norm.weight = nn.Parameter(weight.detach().clone(), weight.requires_grad)
    norm.train(module.training)
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(4, weight.shape[0], generator=generator).to(weight) * eps**0.5  # so small that eps counts
    with torch.no_grad():
        same = torch.allclose(norm(probe), module(probe), rtol=1e-5, atol=1e-6)
    return norm if same else None
