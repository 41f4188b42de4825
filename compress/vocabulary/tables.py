"""Which embeddings of a model are tables of tokens, and how often each token comes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from compress.samples import first_pass
from compress.workload import Batches
from export.calling import call
from export.trace import evaluating

SMALLEST = 256
"""Tables with fewer rows are no vocabularies (token types, bytes) and not worth it."""


@dataclass(frozen=True)
class TokenTable:
    """An embedding that reads the values of one of the model's inputs.

    Args:
        path: of the module.
        reads: the name of the input.
    """

    path: str
    reads: str


def token_tables(model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[tuple[TokenTable, ...], Mapping[str, str]]:
    """The tables that may be trimmed, and why each other embedding of `SMALLEST` rows or more is left alone.

    Args:
        inputs: examples; the model is called on them once.
    """
    embeddings = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, nn.Embedding) and module.num_embeddings >= SMALLEST
    }
    read = _read_by(model, embeddings, inputs)
    owners = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    tables, left_alone = [], {}
    for path, module in embeddings.items():
        reads = read[path][0] if len(set(read[path])) == 1 else None
        reason = _reason(module, reads, owners[id(module.weight)])
        if reason is None and reads is not None:
            tables.append(TokenTable(path, reads))
        elif reason is not None:
            left_alone[path] = reason
    return tuple(tables), left_alone


def token_counts(batches: Batches, table: TokenTable, tokens: int) -> Tensor:
    """How often each token stands in one pass over `batches`, padding included: int64 (tokens,)."""
    counts = torch.zeros(tokens, dtype=torch.int64)
    for inputs, _ in first_pass(batches):
        counts += torch.bincount(inputs[table.reads].flatten(), minlength=tokens)
    return counts


def _read_by(
    model: nn.Module, embeddings: Mapping[str, nn.Embedding], inputs: Mapping[str, Tensor]
) -> dict[str, list[str | None]]:
    """For each embedding and each call of it the input whose values it was given, or None."""
    read: dict[str, list[str | None]] = {path: [] for path in embeddings}

    def watch(path: str) -> RemovableHandle:
        def seen(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            same = [name for name, tensor in inputs.items() if given and _same_tokens(given[0], tensor)]
            read[path].append(same[0] if same else None)

        return embeddings[path].register_forward_pre_hook(seen)

    handles = [watch(path) for path in embeddings]
    try:
        with evaluating(model), torch.no_grad():
            call(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return read


def _same_tokens(given: Tensor, tensor: Tensor) -> bool:
    return given.shape == tensor.shape and not tensor.is_floating_point() and torch.equal(given, tensor)


def _reason(module: nn.Embedding, reads: str | None, owners: int) -> str | None:
    if type(module) is not nn.Embedding:
        return f"it is a {type(module).__name__}, which may do more than look up rows"
    if module.max_norm is not None:
        return "its rows change while they are read (max_norm)"
    if owners > 1:
        return "its weights serve elsewhere too, as an output layer's do that tells the next token"
    if reads is None:
        return "it does not read the values of one input as they come"
    if "position" in reads:
        return f"it reads {reads!r}: positions that no training sample reaches may still come"
    return None
