"""The teacher's quick copy answers as the original; kept answers are found again by content."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from compress.distill import teacher as teaching
from compress.distill.teacher import Teacher
from export.to_onnx import to_onnx

IMAGE = {"image": torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))}


class Network(nn.Module):
    """The first norm's convolution is read by nobody else; the second's by the shortcut too, so it must stay."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv1, self.norm1 = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.norm2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)
        for norm in (self.norm1, self.norm2):
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
            nn.init.normal_(norm.running_mean)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.relu(self.norm1(self.conv1(image)))
        x = self.conv2(x)
        logits: Tensor = self.head((self.norm2(x) + self.shortcut(x)).mean((2, 3)))
        return logits

    def shortcut(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class Shared(Network):
    def shortcut(self, x: Tensor) -> Tensor:
        return x


def norms(teacher: Teacher) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in teacher._model.modules())


@pytest.mark.parametrize(("network", "left"), [(Network, 0), (Shared, 2)])
def test_norms_are_folded_only_where_the_answers_stay(network: type[Network], left: int) -> None:
    model = network().eval()
    teacher = Teacher(model, IMAGE, paths=["conv2"])
    answer = teacher(IMAGE)
    assert norms(teacher) == left
    torch.testing.assert_close(answer.logits, model(**IMAGE), rtol=1e-5, atol=1e-6)
    assert answer.features["conv2"].shape == (4, 4, 8, 8)
    assert not answer.logits.requires_grad
    assert norms(Teacher(model, IMAGE)) == left and isinstance(model.norm1, nn.BatchNorm2d), "the original is as it was"


def test_answers_through_onnx_are_torchs_and_other_sizes_go_to_torch(tmp_path: Path) -> None:
    model = Network().eval()
    to_onnx(model, IMAGE, {"image": {0: "batch"}}, ("logits",), tmp_path / "model.onnx")
    teacher = Teacher(model, IMAGE, onnx=lambda: tmp_path / "model.onnx")
    asked: list[int] = []
    teacher._model.register_forward_hook(lambda module, inputs, output: asked.append(len(output)))
    few = {"image": IMAGE["image"][:3]}
    torch.testing.assert_close(teacher(few).logits, model(**few), rtol=1e-4, atol=1e-5)
    assert asked == []
    larger = {"image": torch.ones(2, 3, 10, 10)}
    torch.testing.assert_close(teacher(larger).logits, model(**larger), rtol=1e-4, atol=1e-5)
    assert asked == [2]


def test_kept_answers_are_found_by_content_and_weights(tmp_path: Path) -> None:
    model = Network().eval()
    first = Teacher(model, IMAGE, cache=tmp_path)(IMAGE)
    again = Teacher(model, IMAGE, cache=tmp_path)
    again._model.register_forward_hook(lambda *_: pytest.fail("the answer is kept: nothing is to be computed"))
    torch.testing.assert_close(again({"image": IMAGE["image"].clone()}).logits, first.logits, rtol=0, atol=0)
    other = {"image": IMAGE["image"] + 1}
    torch.testing.assert_close(Teacher(model, IMAGE, cache=tmp_path)(other).logits, model(**other))
    with torch.no_grad():
        model.head.weight.mul_(2)
    torch.testing.assert_close(Teacher(model, IMAGE, cache=tmp_path)(IMAGE).logits, model(**IMAGE))


def test_kept_answers_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teaching, "CACHE_BYTES", 200)  # one answer is 160 bytes: 128 of header, 4 x 2 floats
    teacher = Teacher(Network().eval(), IMAGE, cache=tmp_path)
    for shift in range(3):
        teacher({"image": IMAGE["image"] + shift})
    assert len(list(tmp_path.rglob("*.npy"))) == 1
