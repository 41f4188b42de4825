"""Recurrent layers come out as one node each, which answers as torch at any batch size and length."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from export.errors import UnsupportedError
from export.model import OnnxModel
from export.recurrent import kept_whole, refuse_unwritten
from export.to_onnx import save_reference, to_onnx
from export.torch_program import read_program
from export.trace import trace

AXES = {"x": {0: "batch", 1: "length"}}
SIZES = ((1, 1), (2, 7), (5, 3), (1, 12))


class Sequences(nn.Module):
    """A recurrent layer over x (batch, length, 4), and its last state."""

    def __init__(self, layer: nn.RNNBase, states: bool = False) -> None:
        super().__init__()
        self.layer, self.states = layer, states

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        output, last = self.layer(x if self.layer.batch_first else x.transpose(0, 1))
        if not self.states:
            return output
        return (output, *last) if isinstance(last, tuple) else (output, last)


def exported(model: nn.Module, folder: Path, names: tuple[str, ...] = ("output",)) -> OnnxModel:
    return to_onnx(model.eval(), {"x": inputs(2, 3)}, AXES, names, folder / "model.onnx")


def inputs(batch: int, length: int) -> Tensor:
    return torch.randn(batch, length, 4, generator=torch.Generator().manual_seed(batch + 10 * length))


def assert_answers_as_torch(model: nn.Module, found: OnnxModel) -> None:
    session = onnxruntime.InferenceSession(found.path, providers=["CPUExecutionProvider"])
    for batch, length in SIZES:
        with torch.no_grad():
            expected = model(inputs(batch, length))
        given = session.run(None, {"x": inputs(batch, length).numpy()})
        for one, two in zip(given, expected if isinstance(expected, tuple) else (expected,), strict=True):
            assert np.abs(one - two.numpy()).max() < 1e-5, (batch, length)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize(
    ("layers", "both", "bias", "batch_first"),
    [(2, True, True, True), (1, True, False, False)],
)
def test_a_layer_is_one_node_with_its_weights_in_place(
    kind: type[nn.RNNBase], layers: int, both: bool, bias: bool, batch_first: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = Sequences(kind(4, 6, layers, bias=bias, bidirectional=both, batch_first=batch_first))
    found = exported(model, tmp_path)
    graph = found.proto().graph
    assert Counter(node.op_type for node in graph.node).keys() <= {kind.__name__, "Transpose", "Reshape"}
    recurrent = [node for node in graph.node if node.op_type == kind.__name__]
    constants = {tensor.name for tensor in graph.initializer}
    assert len(recurrent) == layers
    for node in recurrent:
        weights = [name for name in node.input[1:] if name]
        assert set(weights) <= constants and len(weights) == 2 + bias
    assert_answers_as_torch(model, found)


def test_last_states_are_outputs_too_and_large_weights_are_named_by_their_module(tmp_path: Path) -> None:
    """Small ones are put in order by the exporter itself, under a name of its own."""
    torch.manual_seed(0)
    model = Sequences(nn.LSTM(4, 300, 2, bidirectional=True, batch_first=True), states=True)
    found = exported(model, tmp_path, ("output", "hidden", "cell"))
    names = [node.input[2] for node in found.proto().graph.node if node.op_type == "LSTM"]
    assert names == ["layer.weight_hh_l0_onnx", "layer.weight_hh_l1_onnx"]
    assert not [tensor.name for tensor in found.proto().graph.initializer if tensor.name.endswith("reverse")]
    assert_answers_as_torch(model, found)


def test_a_first_state_that_is_not_zero_stays(tmp_path: Path) -> None:
    class Begun(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.first = nn.GRU(4, 6, batch_first=True), nn.Parameter(torch.randn(1, 1, 6))

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x, self.first.expand(1, x.shape[0], 6).contiguous())[0]

    torch.manual_seed(0)
    model = Begun()
    found = exported(model, tmp_path)
    [node] = [node for node in found.proto().graph.node if node.op_type == "GRU"]
    assert len(node.input) == 6 and node.input[5]
    assert_answers_as_torch(model, found)


def test_a_network_whose_output_size_is_asked_for_again(tmp_path: Path) -> None:
    """What the layer gives is looked at a second time, by its size alone."""

    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.LSTM(4, 6, batch_first=True, bidirectional=True)

        def forward(self, x: Tensor) -> Tensor:
            output = self.layer(x)[0]
            return output.reshape(output.shape[0], output.shape[1], 2, 6).sum(2) + torch.zeros(output.shape[1], 1)

    torch.manual_seed(0)
    model = Padded()
    assert_answers_as_torch(model, exported(model, tmp_path))


def test_the_program_for_torch_takes_other_lengths_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Sequences(nn.LSTM(4, 6, bidirectional=True, batch_first=True)).eval()
    save_reference(model, {"x": inputs(2, 3)}, AXES, tmp_path / "model.program", ["output"])
    program = read_program(tmp_path / "model.program", ["x"])
    for batch, length in SIZES:
        with torch.inference_mode():
            [found] = program(inputs(batch, length))
            assert torch.allclose(found, model(inputs(batch, length)), atol=1e-6)


def test_afterwards_torch_decomposes_as_before() -> None:
    from torch._decomp import global_decomposition_table

    key = torch._C.DispatchKey.CompositeImplicitAutograd
    operator, table = torch.ops.aten.lstm.input, global_decomposition_table["post_autograd"]
    before = operator.py_kernels[key], table[operator]
    with pytest.raises(RuntimeError, match="inside"), kept_whole():
        assert operator.py_kernels[key] is not before[0] and table[operator] is not before[1]
        raise RuntimeError("inside")
    assert (operator.py_kernels[key], table[operator]) == before


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_layers_that_would_be_lost_or_written_wrongly_are_refused(tmp_path: Path) -> None:
    traced = trace(Sequences(nn.LSTM(4, 6, batch_first=True)), {"x": inputs(2, 3)}, AXES, ["output"])
    with pytest.raises(
        UnsupportedError, match=r"this onnxscript does not write 'aten\.lstm\.input' as one node; pip install --upgrade"
    ):
        refuse_unwritten(traced.program, onnx.GraphProto())
    with pytest.raises(
        UnsupportedError, match=r"the LSTM in module 'layer' has a projection \(proj_size\), which ONNX's"
    ):
        exported(Sequences(nn.LSTM(4, 6, proj_size=3, batch_first=True)), tmp_path)
