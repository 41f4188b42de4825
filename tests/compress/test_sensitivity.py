"""`compress sensitivity` on a tiny problem, and how sure a ranking is."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.measurements import Interval
from benchmarks.render.sensitivity import cost_table, sensitivity_html
from benchmarks.sensitivity import (
    SILENT_DB,
    LayerCost,
    Section,
    Sensitivity,
    ranked,
    signal_to_noise,
    signal_to_noise_db,
)
from compress import cli
from compress.load_workload import load_workload
from compress.prune.plan import named_tensors
from compress.recipe import load_recipe
from compress.sensitivity import sensitivity
from compress.sensitivity.probe import Probe, outputs_of
from compress.sensitivity.pruning import Prunable
from export.errors import InputError
from export.progress import silent
from tests.compress.tiny import write_tiny

TOKENS = """
import torch
from torch import nn
from compress import LengthBatches, TokenAccuracy, Workload


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.hidden, self.head = nn.Embedding(20, 8), nn.Linear(8, 12), nn.Linear(12, 3)

    def forward(self, ids, attention_mask):
        return self.head(torch.relu(self.hidden(self.words(ids) * attention_mask[:, :, None].to(torch.float32))))


def texts(seed):
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.arange(11) < torch.arange(2, 12)[:, None]).long()
    ids = torch.randint(1, 20, mask.shape, generator=generator) * mask
    return LengthBatches({"ids": ids, "attention_mask": mask}, (ids % 3).masked_fill(mask == 0, -100), batch_size=2)


def tagger():
    torch.manual_seed(0)
    return Workload(
        model=Tagger().eval(),
        example_inputs={name: tensor[:2] for name, tensor in texts(0).inputs.items()},
        dynamic_axes={name: {0: "batch", 1: "length"} for name in ("ids", "attention_mask")},
        train=texts(0),
        validation=texts(1),
        evaluation=texts(2),
        loss=lambda logits, target: nn.functional.cross_entropy(logits.transpose(1, 2), target),
        metric=TokenAccuracy(),
    )
"""

TOKENS_RECIPE = """\
name: tokens
workload: workload.py:tagger
arguments: {}
steps:
  - quantize: {schemes: [int8-dynamic], calibration_samples: 5}
targets: [onnxruntime_mobile]
budget: {metric_drop: 0.1}
"""

NONE = Interval(0.0, 0.0, 0.0)


def cost(layer: str, value: float, half: float) -> LayerCost:
    return LayerCost(layer, "Conv", Interval(value, value - half, value + half), NONE)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Sensitivity:
    folder = tmp_path_factory.mktemp("tiny")
    return sensitivity(write_tiny(folder), samples=20)


def test_every_layer_is_ranked_for_pruning_and_for_each_scheme(found: Sensitivity) -> None:
    titles = [section.title for section in found.sections]
    assert titles[:2] == ["Pruning: a quarter of one layer's channels", "Pruning: half of one layer's channels"]
    assert "onnxruntime_mobile int8: one layer alone quantized" in titles
    for section in found.sections[:2]:
        assert {each.layer for each in section.costs} == {"conv1", "conv2"}
        assert {each.change for each in section.costs} <= {"4 of 16", "8 of 16"}
    for section in found.sections[2:]:
        assert {each.layer for each in section.costs} == {"conv1", "conv2", "head"}
        assert all(each.signal_to_noise_db.low <= each.signal_to_noise_db.value for each in section.costs)
    assert found.samples == 20


def test_the_worst_come_first_and_half_costs_more_than_a_quarter(found: Sensitivity) -> None:
    for section in found.sections:
        values = [each.signal_to_noise_db.value for each in section.costs]
        assert values == sorted(values)
    quarter, half = (
        {each.layer: each.signal_to_noise_db.value for each in section.costs} for section in found.sections[:2]
    )
    assert all(half[layer] < quarter[layer] for layer in quarter)


def test_products_of_a_dynamic_scheme_are_ranked_too(tmp_path: Path) -> None:
    found = sensitivity(write_tiny(tmp_path), ["steps.2.quantize.schemes=[int8-dynamic]"], samples=20)
    section = found.sections[2]
    assert section.title == "onnxruntime_mobile int8-dynamic: one layer alone quantized"
    assert [(each.layer, each.change) for each in section.costs] == [("head", "Gemm")], "convolutions stay in float"
    assert section.costs[0].signal_to_noise_db.value < SILENT_DB


def test_a_network_of_tokens_is_ranked_on_texts_of_different_lengths(tmp_path: Path) -> None:
    """Its outputs of two batches have different lengths."""
    (tmp_path / "workload.py").write_text(TOKENS)
    (tmp_path / "recipe.yaml").write_text(TOKENS_RECIPE)
    found = sensitivity(tmp_path / "recipe.yaml", samples=6)
    assert found.metric == "token_accuracy" and found.samples == 6
    pruned, quantized = found.sections[0], found.sections[2]
    assert pruned.costs and all(each.signal_to_noise_db.value < SILENT_DB for each in pruned.costs)
    assert {each.layer: each.change for each in quantized.costs} == {"hidden": "MatMul", "head": "MatMul"}
    assert all(each.signal_to_noise_db.value < SILENT_DB for each in quantized.costs)


def test_the_samples_of_a_validation_set_that_goes_from_short_to_long_have_all_lengths(tmp_path: Path) -> None:
    (tmp_path / "workload.py").write_text(TOKENS)
    (tmp_path / "recipe.yaml").write_text(TOKENS_RECIPE)
    probe = Probe.of(load_workload(load_recipe(tmp_path / "recipe.yaml")), 3)
    assert [int(inputs["attention_mask"].sum(1).max()) for inputs, _ in probe.batches] == [6, 11]


def test_pruning_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    workload = load_workload(load_recipe(write_tiny(tmp_path)))
    prunable, probe = Prunable.of(workload), Probe.of(workload, 20)
    before = {name: tensor.clone() for name, tensor in named_tensors(prunable.model).items()}
    prunable.costs(probe, "half", 0.5, silent)
    assert all(bool((tensor == before[name]).all()) for name, tensor in named_tensors(prunable.model).items())
    for found, wanted in zip(outputs_of(workload.model, probe.batches), probe.outputs, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_signal_to_noise_is_ten_times_the_logarithm_of_the_ratio_of_energies() -> None:
    wanted = np.array([[3.0, 4.0], [0.0, 5.0]])
    found = wanted + np.array([[0.5, 0.0], [0.0, 0.0]])
    assert signal_to_noise_db([wanted], [found]) == pytest.approx(10 * np.log10(50 / 0.25))
    assert signal_to_noise_db([wanted], [wanted]) == SILENT_DB
    longer = np.array([[[6.0], [8.0], [0.0]]])
    assert signal_to_noise_db([wanted, longer], [found, longer + 1]) == pytest.approx(10 * np.log10(150 / 3.25))
    interval = signal_to_noise([wanted], [found])
    assert interval.low <= interval.value <= interval.high == SILENT_DB, "a resample may miss the only noisy sample"


def test_places_are_all_that_the_intervals_allow() -> None:
    costs = ranked([cost("c", 30.0, 6.0), cost("a", 10.0, 1.0), cost("b", 25.0, 1.0), cost("d", 60.0, 1.0)])
    assert [(each.layer, each.rank) for each in costs] == [("a", (1, 1)), ("b", (2, 3)), ("c", (2, 3)), ("d", (4, 4))]


def test_doubt_about_the_worst_layer_is_told() -> None:
    sure = Section("INT8", ranked([cost("a", 10.0, 1.0), cost("b", 20.0, 1.0)]))
    unsure = Section("INT8", ranked([cost("a", 10.0, 8.0), cost("b", 20.0, 8.0), cost("c", 60.0, 1.0)]))
    assert sure.doubt is None
    assert unsure.doubt == "INT8: the samples do not tell which layer is the worst; give more with --samples"


def test_the_page_stands_alone_and_escapes_names(found: Sensitivity) -> None:
    section = Section("<b>INT8</b>", ranked([cost("<script>", 10.0, 1.0), cost("b", 20.0, 1.0)]))
    page = sensitivity_html(Sensitivity("x", "accuracy", 0.9, 20, (section,), ("left <out>",)))
    assert "<b>INT8</b>" not in page and "left &lt;out&gt;" in page
    assert "chart-sensitivity-0" in page and 'src="http' not in page
    assert cost_table(found, found.sections[0], 1).notes == ("1 more layers cost less.",)


def test_too_few_samples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--samples must be 2 or more, found 1"):
        sensitivity(write_tiny(tmp_path), samples=1)


def test_the_command_writes_both_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], found: Sensitivity
) -> None:
    recipe = write_tiny(tmp_path)
    monkeypatch.setattr("compress.sensitivity.sensitivity", lambda *_: found)
    monkeypatch.setattr(sys, "argv", ["compress", "sensitivity", str(recipe), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 0
    shown = capsys.readouterr().out
    assert "Pruning: half of one layer's channels" in shown and "On 20 validation samples" in shown
    written = json.loads((tmp_path / "out" / "sensitivity.json").read_text())
    assert [section["title"] for section in written["sections"]] == [section.title for section in found.sections]
    assert (tmp_path / "out" / "sensitivity.html").read_text().startswith("<!")
