"""Traced models as files of operators and tensors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from export.errors import EnvironmentFailure
from export.to_onnx import save_reference
from export.torch_program import read_program


class Everything(nn.Module):
    """Tied and channels-last weights, sizes computed with, constants of torch, lists, slices and numbers that JSON lacks."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, padding=1).to(memory_format=torch.channels_last)
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.register_buffer("places", torch.arange(64))

    def forward(self, image: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        channels = self.convolution(image).flatten(2).transpose(1, 2)
        size = channels.shape[1] // 2
        hidden = self.second(torch.relu(self.first(channels[:, :size])))
        late = self.places[:size] >= length[:, None]
        masked = hidden.masked_fill(late[:, :, None], float("-inf")).softmax(1).to(torch.float64).nan_to_num(0.5)
        return masked.sum(1), torch.cat([hidden, torch.zeros_like(hidden)], 2).permute([0, 2, 1])


class Nested(nn.Module):
    """A loop inside the graph, for which the file has torch's own form."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (x,))


IMAGES = {"image": torch.randn(2, 3, 8, 8), "length": torch.tensor([20, 30])}
AXES = {"image": {0: "batch", 2: "height"}, "length": {0: "batch"}}


def test_it_computes_what_the_model_does_at_other_sizes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, path = Everything().eval(), tmp_path / "model.program"
    save_reference(model, IMAGES, AXES, path, ["a", "b"])
    program = read_program(path, list(IMAGES))
    for images, height in ((2, 8), (3, 6), (1, 4)):
        inputs = torch.randn(images, 3, height, 8), torch.arange(images) * 9
        with torch.inference_mode():
            for found, expected in zip(program(*inputs), model(*inputs), strict=True):
                torch.testing.assert_close(found, expected)
    shapes = sorted(tuple(tensor.shape) for tensor in load_file(path).values())
    assert shapes == [(8,), (8,), (8,), (8, 3, 3, 3), (8, 8), (64,)]  # the tied weight once
    weights = [tensor for tensor in vars(program).values() if isinstance(tensor, Tensor) and tensor.dim() == 4]
    assert [tensor.is_contiguous(memory_format=torch.channels_last) for tensor in weights] == [True]


def test_a_graph_inside_the_graph_is_kept_too(tmp_path: Path) -> None:
    path = tmp_path / "model.program"
    save_reference(Nested().eval(), {"x": torch.ones(2, 3)}, {"x": {0: "batch"}}, path, ["y"])
    program = read_program(path, ["x"])
    for sign in (1.0, -1.0):
        torch.testing.assert_close(program(torch.full((3, 3), sign))[0], torch.full((3, 3), 2 * sign))


def test_a_process_that_reads_it_needs_none_of_torchs_tracing(tmp_path: Path) -> None:
    path = tmp_path / "model.program"
    save_reference(Everything().eval(), IMAGES, AXES, path, ["a", "b"])
    code = (
        "import sys; from pathlib import Path; from export.torch_program import read_program; "
        f"read_program(Path({str(path)!r}), ['image', 'length']); sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"target": "op.aten.no_such_operator.default"}, r"cannot compute it: .*no_such_operator"),
        ({"target": "os.system"}, "it is damaged"),
        ({"target": "op.aten.__class__.mro"}, "it is damaged|cannot compute it"),
        ({"args": {"tuple": [{"dtype": "load"}]}}, "it is damaged"),
        ({"args": {"tuple": [{"node": "nobody"}]}}, "it is damaged"),
    ],
)
def test_what_is_no_operator_of_torch_is_refused(changed: dict[str, object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.program"
    save_reference(nn.Linear(3, 2).eval(), {"input": torch.ones(2, 3)}, {}, path, ["y"])
    with safe_open(path, "pt") as file:
        told = json.loads(file.metadata()["program"])
    next(node for node in told["nodes"] if node["op"] == "call_function").update(changed)
    changed_path = tmp_path / "changed.program"
    save_file(load_file(path), changed_path, {"program": json.dumps(told)})
    with pytest.raises(EnvironmentFailure, match=message):
        read_program(changed_path, ["input"])
