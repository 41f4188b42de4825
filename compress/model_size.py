"""How large a model is: parameters, multiply-accumulates of one sample, bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from export.calling import call


@dataclass(frozen=True)
class ModelSize:
    """The size of a model.

    Args:
        parameters: numbers in the parameters; a tied parameter counts once.
        macs: multiply-accumulates of convolutions, linear and recurrent layers and attention on one sample. Normalisation,
            activations and pooling are not counted, as in the published tables.
        size_bytes: of parameters and buffers in memory.
    """

    parameters: int
    macs: int
    size_bytes: int


def measure_size(model: nn.Module, example_inputs: Mapping[str, Tensor]) -> ModelSize:
    """Count by running the model on the first sample of `example_inputs`; the model's mode is left as it was.

    Args:
        example_inputs: named inputs, the batch as first axis.
    """
    tensors = [*model.parameters(), *model.buffers()]
    return ModelSize(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        macs=_macs(model, {name: tensor[:1] for name, tensor in example_inputs.items()}),
        size_bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors),
    )


def _macs(model: nn.Module, one_sample: Mapping[str, Tensor]) -> int:
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), countable(), _frozen(model), FlopCounterMode(display=False) as counter:
            call(model, one_sample)
    finally:
        model.train(training)
    return int(counter.get_total_flops()) // 2


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Torch's counter asks what a module reads for its gradient function, which a slice of a parameter has none of in no_grad."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


@contextmanager
def countable() -> Iterator[None]:
    """Plain kernels: torch 2.13's counter takes the CPU's fused attention, the whole fused layer of
    nn.TransformerEncoderLayer, and oneDNN's whole LSTM for nothing."""
    fused, one_dnn = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled
    torch.backends.mha.set_fastpath_enabled(False)
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        torch.backends.mkldnn.enabled = one_dnn
