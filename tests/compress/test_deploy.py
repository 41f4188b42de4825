"""What ships where the compressed model turns out slower than the original: the original, and the report says so."""

from __future__ import annotations

from pathlib import Path

import pytest

import compress
from benchmarks.measurements import Interval
from compress.deploy.choice import ORIGINAL, Ratios
from tests.compress.tiny import RECIPE, write_tiny

SLOWER = Interval(0.85, 0.83, 0.87)


def test_a_pruned_model_that_is_slower_gives_way_to_the_original(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ratios are planted, everything else is measured."""
    recipe = RECIPE.replace("  - distill: {epochs: 1, learning_rate: 0.01}\n", "").replace(
        "  - quantize: {calibration_samples: 120}\n", ""
    )
    path = write_tiny(tmp_path, recipe.replace("budget: {metric_drop: 0.1}", "budget: {speedup: 1.5}"))
    monkeypatch.setattr("compress.deploy.trials.ratios", lambda name, *_: Ratios({}))
    monkeypatch.setattr("compress.deploy.one_target.ratios", lambda name, *_: Ratios({}, {1: SLOWER}))
    report = compress.run(path, tmp_path / "run")
    chosen, reference = report.chosen("onnxruntime_mobile"), report.reference("onnxruntime_mobile")
    assert chosen is not None and reference is not None
    assert (chosen.stage, chosen.scheme) == (ORIGINAL, "fp32")
    assert chosen.files == reference.files
    assert chosen.latency[0].faster_than_fp32 is not None, "timed a second time, so that a budget line can be judged"
    assert chosen.reason == (
        "measured afresh, the final model in FP32 is slower than the original in FP32 at batch 1: 0.85x [0.83, 0.87], "
        "so that the original in FP32 ships (chosen before: no other scheme was offered or could be built)"
    )
    assert (
        "onnxruntime_mobile: the model after prune is, in FP32, slower than the original in FP32 at batch 1: "
        "0.85x [0.83, 0.87]"
    ) in report.warnings
    assert report.verdicts[0].decision != "accepted" and report.verdicts[0].findings
