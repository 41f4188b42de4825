"""Accuracy control on a planted bad layer, and the search for how many layers must go back."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import compress
from benchmarks.measurements import Interval
from benchmarks.render.given_back import given_back_table
from benchmarks.render.markdown import report_markdown
from benchmarks.report import Report, Row, Score
from compress.accuracy_control import calibration_arrays, fewest
from compress.deploy.choice import drop_of
from targets import target_class
from targets.isa import instruction_sets
from tests.compress.tiny import WORKLOAD

OUTLIERS = """

class Outliers(nn.Module):
    '''A third convolution whose first output channel is 2,000 times the others; the next layer takes it back down.'''

    def __init__(self, tiny):
        super().__init__()
        self.conv1, self.bn1, self.conv2, self.bn2 = tiny.conv1, tiny.bn1, tiny.conv2, tiny.bn2
        self.wide, self.mixed, self.head = nn.Conv2d(16, 17, 1), nn.Conv2d(17, 16, 1), tiny.head
        with torch.no_grad():
            for conv in (self.wide, self.mixed):
                conv.weight.zero_()
                conv.bias.zero_()
            self.wide.weight[range(16), range(16), 0, 0] = 1.0
            self.wide.weight[16, 0, 0, 0] = 2000.0
            self.wide.bias[16] = 100.0
            self.mixed.weight[range(16), range(16), 0, 0] = 1.0

    def forward(self, image):
        x = torch.relu(self.bn1(self.conv1(image)))
        x = torch.relu(self.bn2(self.conv2(x)))
        x = torch.relu(self.wide(x))
        return self.head(torch.relu(self.mixed(x)).mean((2, 3)))


class OutlierProducts(nn.Module):
    '''The same in matrix products, behind the mean over the image.'''

    def __init__(self, tiny):
        super().__init__()
        self.conv1, self.bn1, self.conv2, self.bn2 = tiny.conv1, tiny.bn1, tiny.conv2, tiny.bn2
        self.wide, self.mixed, self.head = nn.Linear(16, 17), nn.Linear(17, 16), tiny.head
        with torch.no_grad():
            for linear in (self.wide, self.mixed):
                linear.weight.zero_()
                linear.bias.zero_()
            self.wide.weight[range(16), range(16)] = 1.0
            self.wide.weight[16, 0] = 2000.0
            self.wide.bias[16] = 100.0
            self.mixed.weight[range(16), range(16)] = 1.0

    def forward(self, image):
        x = torch.relu(self.bn1(self.conv1(image)))
        x = torch.relu(self.bn2(self.conv2(x))).mean((2, 3))
        return self.head(torch.relu(self.mixed(torch.relu(self.wide(x)))))


def planted(products=False):
    import dataclasses

    made = tiny()
    return dataclasses.replace(made, model=(OutlierProducts if products else Outliers)(made.model).eval())
"""

RECIPE = """\
name: planted
workload: workload.py:planted
arguments: {{products: {products}}}
steps:
  - quantize: {{calibration_samples: 64, schemes: [{scheme}], accuracy_control: {control}}}
targets: [{target}]
benchmark: {{seconds: 0.2, processes: 1, half_width: 0.9, throughput: false}}
budget: {{{budget}}}
"""


def planted(
    folder: Path,
    target: str,
    scheme: str = "int8",
    control: str = "true",
    products: str = "false",
    budget: str = "metric_drop: 0.02",
) -> Report:
    (folder / "workload.py").write_text(WORKLOAD + OUTLIERS)
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(target=target, scheme=scheme, control=control, products=products, budget=budget))
    return compress.run(recipe, folder / "run")


def tried(report: Report, scheme: str) -> Row:
    return next(row for row in report.rows if row.scheme == scheme and row.role == "tried")


@pytest.mark.parametrize("target", ["onnxruntime_mobile", "openvino"])
def test_the_planted_bad_layer_goes_back_and_few_others(target: str, tmp_path: Path) -> None:
    if reason := target_class(target)().unavailable():
        pytest.skip(reason)
    report = planted(tmp_path, target)
    ruined, mixed = tried(report, "int8"), tried(report, "int8-mixed")
    assert loss(ruined) > 0.02 >= loss(mixed)
    assert mixed.given_back[0].module == "mixed", "the layer that reads the outlier channel"
    noisiest, *others = [layer.signal_to_noise_db for layer in mixed.given_back]
    assert all(noisiest < other - 10 for other in others)
    beside = [layer.module for layer in mixed.given_back[1:]]
    without_vnni = ["head"] if target == "openvino" and "vnni" not in instruction_sets() else []
    assert beside in (without_vnni, ["wide", *without_vnni]), "the layer before it, where none writes float from INT8"
    assert mixed.given_back[0].metric_change < -0.02
    assert mixed.given_back[0].price_s is not None
    table = given_back_table(report)
    assert table is not None and f"mixed ({mixed.given_back[0].layer})" in table.lines[1].cells
    assert table.notes[-1].startswith(f"{target}: int8-mixed takes ")
    assert "Layers in float again" in report_markdown(report)


def test_a_bad_product_of_a_dynamic_scheme_goes_back_alone(tmp_path: Path) -> None:
    """The limit stands in percent of what the original scores; what ships is judged by it too."""
    budget = "metric_drop_percent: 2"
    report = planted(tmp_path, "onnxruntime_mobile", scheme="int8-dynamic", products="true", budget=budget)
    ruined, mixed = tried(report, "int8-dynamic"), tried(report, "int8-dynamic-mixed")
    original = report.rows[0].validation
    assert original is not None
    assert loss(ruined) > 0.02 * original.value >= loss(mixed)
    assert report.budget == {"metric_drop_percent": 2.0}
    assert "(2 % of the original's" in report.verdicts[0].findings[0]
    assert [(layer.module, layer.operator) for layer in mixed.given_back] == [("mixed", "Gemm")]
    assert mixed.given_back[0].metric_change < -0.02
    assert mixed.given_back[0].price_s is not None


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    report = planted(tmp_path, "onnxruntime_mobile", control="false")
    assert [row.scheme for row in report.rows if row.role == "tried"] == ["int8"]
    assert report.chosen("onnxruntime_mobile").scheme == "fp32"  # type: ignore[union-attr]
    assert given_back_table(report) is None


def loss(row: Row) -> float:
    assert row.validation is not None and row.validation.difference is not None
    return -row.validation.difference.value


@pytest.mark.parametrize("needed", [1, 2, 3, 5, 8, 37, 60])
def test_the_fewest_that_hold_are_found(needed: int) -> None:
    asked: list[int] = []

    def holds(count: int) -> bool:
        asked.append(count)
        return count >= needed

    assert fewest(60, holds) == needed
    assert len(asked) == len(set(asked)) <= 2 * math.ceil(math.log2(needed + 1)) + 1


def test_none_is_found_where_all_are_not_enough() -> None:
    assert fewest(5, lambda count: False) is None


def test_where_it_is_not_monotone_the_number_holds_all_the_same() -> None:
    assert fewest(16, lambda count: count in (4, 16)) == 4


def test_a_metric_that_should_be_low_is_controlled_the_other_way() -> None:
    """The drop that control compares with the budget is a rise of an error rate."""
    rise = Score("error", "validation", 100, 0.3, Interval(0.2, 0.1, 0.3))
    assert drop_of(rise, higher_is_better=False) == 0.2


def test_single_samples_of_equal_shape_go_through_together() -> None:
    samples = [{"ids": np.full((1, length), number)} for number, length in enumerate([3, 5, 3, 5, 4])]
    batches = calibration_arrays(iter(samples), 4, batched=True)
    assert [batch["ids"][:, 0].tolist() for batch in batches] == [[0, 2], [1, 3]]
    assert len(calibration_arrays(iter(samples), 4, batched=False)) == 4
