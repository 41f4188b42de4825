"""A tiny but real problem: striped images whose class is the stripes' direction, learned by a small CNN in a second."""

from __future__ import annotations

from pathlib import Path

WORKLOAD = """
import torch
from torch import nn
from compress import Accuracy, TensorBatches, Workload


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 2)

    def forward(self, image):
        x = torch.relu(self.bn1(self.conv1(image)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.head(x.mean((2, 3)))


def stripes(samples, seed):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 2, (samples,), generator=generator)
    rows = torch.randn(samples, 1, 12, 1, generator=generator).expand(-1, -1, -1, 12)
    columns = torch.randn(samples, 1, 1, 12, generator=generator).expand(-1, -1, 12, -1)
    noise = 0.3 * torch.randn(samples, 1, 12, 12, generator=generator)
    return {"image": torch.where(target.view(-1, 1, 1, 1) == 0, rows, columns) + noise}, target


def tiny(baseline=None, calibration_from="train", scale=1.0):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model, train, test = Tiny(), stripes(256, 1), stripes(120, 2)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for epoch in range(6):
        for rows in torch.arange(256).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(train[0]["image"][rows]), train[1][rows]).backward()
            optimizer.step()
    with torch.no_grad():
        model.head.weight *= scale
    return Workload(
        model=model.eval(),
        example_inputs={"image": test[0]["image"][:2]},
        dynamic_axes={"image": {0: "batch"}},
        train=TensorBatches(*train, batch_size=64, shuffle=True),
        calibration=TensorBatches(*(test if calibration_from == "test" else train), batch_size=64),
        evaluation=TensorBatches(*test, batch_size=40),
        loss=nn.functional.cross_entropy,
        metric=Accuracy(),
        baseline=baseline,
    )
"""

RECIPE = """\
name: tiny
workload: workload.py:tiny
arguments: {}
steps:
  - prune: {macs_ratio: 1.5, multiple_of: 1}
  - distill: {epochs: 1, learning_rate: 0.01}
  - quantize: {calibration_samples: 120}
targets:
  - onnxruntime_mobile
benchmark: {seconds: 0.2, processes: 1, half_width: 0.9, throughput: false}
budget: {metric_drop: 0.1}
"""


QUANTIZED = RECIPE.replace("  - prune: {macs_ratio: 1.5, multiple_of: 1}\n", "").replace(
    "  - distill: {epochs: 1, learning_rate: 0.01}\n", ""
)
"""The same without training."""


def write_tiny(folder: Path, recipe: str = RECIPE) -> Path:
    """Workload and recipe in `folder`; the recipe's path."""
    (folder / "workload.py").write_text(WORKLOAD)
    path = folder / "recipe.yaml"
    path.write_text(recipe)
    return path
