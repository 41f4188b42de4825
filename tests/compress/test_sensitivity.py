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


def test_pruning_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    workload = load_workload(load_recipe(write_tiny(tmp_path)))
    prunable, probe = Prunable.of(workload), Probe.of(workload, 20)
    before = {name: tensor.clone() for name, tensor in named_tensors(prunable.model).items()}
    prunable.costs(probe, "half", 0.5, silent)
    assert all(bool((tensor == before[name]).all()) for name, tensor in named_tensors(prunable.model).items())
    np.testing.assert_array_equal(outputs_of(workload.model, probe.batches), probe.outputs)


def test_signal_to_noise_is_ten_times_the_logarithm_of_the_ratio_of_energies() -> None:
    wanted = np.array([[3.0, 4.0], [0.0, 5.0]])
    found = wanted + np.array([[0.5, 0.0], [0.0, 0.0]])
    assert signal_to_noise_db(wanted, found) == pytest.approx(10 * np.log10(50 / 0.25))
    assert signal_to_noise_db(wanted, wanted) == SILENT_DB
    interval = signal_to_noise(wanted, found)
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
