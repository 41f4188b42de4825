"""Windows larger than the image they look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from export.parity import check_parity
from export.to_onnx import to_onnx
from targets import FP32
from targets.openvino import OpenVino

AXES = {"image": {0: "batch"}}
IMAGE = {"image": torch.randn(2, 3, 6, 5)}


def pooled(pooling: nn.Module, path: Path) -> tuple[str, ...]:
    """The pooling operators of the exported network, whose answers were compared with torch's."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), pooling, nn.Flatten())
    exported = to_onnx(model, IMAGE, AXES, ["y"], path)
    check_parity(model, exported, IMAGE, AXES)
    return tuple(node.op_type for node in onnx.load(path).graph.node if "Pool" in node.op_type)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        (nn.AvgPool2d(64, ceil_mode=True), "GlobalAveragePool"),
        (nn.MaxPool2d(64, ceil_mode=True), "GlobalMaxPool"),
        (nn.AvgPool2d(2, ceil_mode=True), "AveragePool"),
        (nn.AvgPool2d((6, 5)), "AveragePool"),
        (nn.MaxPool2d(3, padding=1), "MaxPool"),
    ],
)
def test_a_window_that_holds_the_whole_image_becomes_global(pooling: nn.Module, expected: str, tmp_path: Path) -> None:
    assert pooled(pooling, tmp_path / "model.onnx") == (expected,)


def test_openvino_takes_it(tmp_path: Path) -> None:
    target = OpenVino()
    if why := target.unavailable():
        pytest.skip(why)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AvgPool2d(64, ceil_mode=True), nn.Flatten()).eval()
    exported = to_onnx(model, IMAGE, AXES, ["y"], tmp_path / "model.onnx")
    engine = target.compile(exported, FP32, tmp_path)
    with target.load(engine, threads=1) as session:
        found = session.run({"image": IMAGE["image"].numpy()})["y"]
    np.testing.assert_allclose(found, model(IMAGE["image"]).detach().numpy(), rtol=1e-3, atol=1e-4)
