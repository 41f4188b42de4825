"""Weights in and out of a model: all of them or none, as safetensors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from compress.read_tensors import read_tensors
from export.clean import count_not_finite
from export.errors import InputError, QualityError
from export.files import write_whole

PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""

SHOWN = 5
"""How many names an error lists."""


def load_weights(model: nn.Module, path: Path | str) -> None:
    """Load every weight of the model from a .safetensors or torch file; on failure the model is unchanged.

    A `module.` or `_orig_mod.` prefix and nesting under `state_dict` are understood. Tied tensors may be in the file
    once, and counters of batches (`num_batches_tracked`), which inference never reads, may be missing.

    Raises:
        InputError: if the file is missing or damaged, or names or shapes do not fit; all of them are named.
        SecurityError: if loading would run code.
        QualityError: if a weight is NaN or Inf.
    """
    path = Path(path)
    own = model.state_dict()
    tensors = _without_prefix(read_tensors(path), own)
    _check_fit(tensors, own, path)
    for name, tensor in tensors.items():
        if count := count_not_finite(
            tensor.to(torch.float32).numpy() if tensor.is_floating_point() else tensor.numpy()
        ):
            raise QualityError(
                f"{path}: weight '{name}': {count} of {tensor.numel()} values are NaN or Inf; "
                "use a checkpoint from before the training diverged"
            )
    model.load_state_dict(tensors, strict=False)  # strictness is _check_fit, which knows tied tensors


def save_weights(model: nn.Module, path: Path, figures: Mapping[str, float] | None = None) -> None:
    """Write all parameters and buffers as safetensors, whole; tensors that share memory are written once.

    Args:
        figures: what is known of these weights ({"test_accuracy": 0.9025}), kept in the file for `stated`.
    """
    state = model.state_dict()
    kept = {names[0] for names in _tied(state)}
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items() if name in kept}
    notes = {name: f"{value:.6f}" for name, value in (figures or {}).items()}
    write_whole(path, safetensors.torch.save(tensors, metadata=notes or None))


def stated(path: Path, figure: str) -> float | None:
    """A figure that `save_weights` kept beside the weights; None for weights that come from elsewhere."""
    if path.suffix != ".safetensors":
        return None
    with safetensors.safe_open(path, framework="pt") as file:
        found = (file.metadata() or {}).get(figure)
    return None if found is None else float(found)


def weights_hash(model: nn.Module) -> str:
    """sha256 over names, dtypes, shapes and bytes of all parameters and buffers, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _without_prefix(tensors: Mapping[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    names = dict(tensors)
    for prefix in (*PREFIXES, *PREFIXES):  # either may stand before the other
        if all(name.startswith(prefix) for name in names) and not all(name.startswith(prefix) for name in own):
            names = {name.removeprefix(prefix): tensor for name, tensor in names.items()}
    return names


def _check_fit(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path) -> None:
    given = {alias for names in _tied(own) if any(name in tensors for name in names) for alias in names}
    missing = [name for name in own if name not in given and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in tensors if name not in own]
    shapes = [
        f"{name} {tuple(tensor.shape)} in the file, {tuple(own[name].shape)} in the model"
        for name, tensor in tensors.items()
        if name in own and tensor.shape != own[name].shape
    ]
    problems = [
        f"{label} ({len(names)}): {_listed(names)}"
        for label, names in (("missing", missing), ("unexpected", unexpected), ("other shapes", shapes))
        if names
    ]
    if problems:
        raise InputError(
            f"{path}: the weights do not fit the model: {'; '.join(problems)}. Nothing was loaded; "
            "build the model that the checkpoint was saved from"
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _tied(state: Mapping[str, Tensor]) -> list[list[str]]:
    """Names grouped by the tensor that they stand for."""
    groups: dict[object, list[str]] = {}
    for name, tensor in state.items():
        shared = (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else name
        groups.setdefault(shared, []).append(name)
    return list(groups.values())
