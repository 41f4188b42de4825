"""`compress explain` on a run's folder: real ONNX Runtime engines of a tiny network, a made-up report around them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from benchmarks.explain.roofline import Roofline
from benchmarks.machine import fingerprint
from benchmarks.measurements import Latency
from benchmarks.report import Report, Row, Verdict
from compress import explain as explaining
from compress.cli import app
from compress.engines import ENGINE
from compress.explain import explain_run
from compress.profile_inputs import EXTENT, profile_inputs
from compress.quantize.model import quantize_model
from export.errors import InputError
from export.model import OnnxModel, TensorSpec
from targets import FP32, Engine, Scheme
from targets.onnxruntime_mobile import OnnxRuntimeMobile
from tests.benchmarks.render.made_up import made_up_report
from tests.targets import networks

TARGET = OnnxRuntimeMobile()
ROOFLINE = Roofline(
    {"convolution": {"fp32": 50e9, "int8": 100e9}, "matmul": {"fp32": 50e9, "int8": 100e9}},
    1e10,
    1e11,
    1 << 25,
    1e-6,
    1e-5,
)
NO_GPU = "no NVIDIA GPU here"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose target ships FP32; INT8 was tried. A second target was compiled only."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    model = networks.convolutional(folder.parent / "in.onnx")
    scheme = next(each for each in TARGET.schemes() if each.name == "int8")
    quantized = quantize_model(model, [networks.images(16)], scheme, folder.parent / "quantized.onnx")
    rows = [
        _row("fp32", "reference", _compiled(folder, model, FP32), folder),
        _row("int8", "tried", _compiled(folder, quantized, scheme), folder),
        _row("fp32", "chosen", _compiled(folder, model, FP32), folder),
        Row("tensorrt", "original", "fp16", "chosen", "compiled", NO_GPU, files={"artifacts/tensorrt/fp16/x": "0"}),
    ]
    _write(folder, rows)
    return folder


def _compiled(folder: Path, model: OnnxModel, scheme: Scheme) -> Engine:
    place = folder / "artifacts" / "onnxruntime_mobile" / scheme.name
    place.mkdir(parents=True, exist_ok=True)
    engine = TARGET.compile(model, scheme, place)
    (place / ENGINE).write_text(json.dumps(engine.to_json(place)))
    return engine


def _row(scheme: str, role: str, engine: Engine, folder: Path) -> Row:
    files = {file.relative_to(folder).as_posix(): "0" for file in engine.files}
    latency = (Latency(2, {}, 1, 1e-4, ((1e-4,),)),)
    return Row(TARGET.name, "original", scheme, role, "measured", latency=latency, files=files)  # type: ignore[arg-type]


def _write(folder: Path, rows: Sequence[Row], **changes: object) -> None:
    machine = {"cpu": fingerprint()["cpu"]}
    verdicts = (Verdict("onnxruntime_mobile", "accepted", "fp32", ()),)
    report = replace(made_up_report(), rows=tuple(rows), machine=machine, verdicts=verdicts)
    replace(report, **changes).write(folder / "report.json")  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The roofline has tests of its own."""
    monkeypatch.setattr(explaining, "measure_roofline", lambda target, threads: ROOFLINE)


def test_what_ships_is_explained_and_beside_fp32_the_int8_that_was_tried(run: Path) -> None:
    found = explain_run(run, None, None, Console(quiet=True))
    assert [(each.target, each.scheme) for each in found.explanations] == [
        ("onnxruntime_mobile", "fp32"),
        ("onnxruntime_mobile", "int8"),
    ]
    fp32, int8 = found.explanations
    assert fp32.fp32_call_s is None and not fp32.is_int8
    assert int8.fp32_call_s is not None and int8.is_int8
    assert [layer.fp32_s is not None for layer in int8.layers if layer.work.kind == "convolution"] == [True, True]
    assert int8.batch_size == 2
    assert all(layer.share >= 0 for layer in int8.layers)


def test_where_the_original_ships_the_int8_of_the_final_model_is_explained(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    reference, tried, chosen, _ = Report.read(folder / "report.json").rows
    pruned = replace(reference, stage="prune", role="stage")
    _write(folder, [reference, pruned, replace(tried, stage="prune"), chosen])
    found = explain_run(folder, None, None, Console(quiet=True))
    assert [(each.target, each.scheme) for each in found.explanations] == [
        ("onnxruntime_mobile", "fp32"),
        ("onnxruntime_mobile", "int8"),
    ]
    assert [each.scheme for each in explain_run(folder, None, "int8", Console(quiet=True)).explanations] == ["int8"]


def test_a_target_that_cannot_run_here_is_one_sentence(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("targets.tensorrt.TensorRt.cannot_run", lambda self: NO_GPU)
    found = explain_run(run, "tensorrt", None, Console(quiet=True))
    assert found.explanations == ()
    assert found.left_out == (f"tensorrt: not explained: {NO_GPU}",)


def test_one_scheme_alone(run: Path) -> None:
    """A target without that scheme is left out where another has it."""
    found = explain_run(run, None, "int8", Console(quiet=True))
    assert found.left_out == ()
    assert [each.scheme for each in found.explanations] == ["int8"]


@pytest.mark.parametrize(
    ("target", "scheme", "message"),
    [
        ("openvino", None, r"found --target openvino, this run has onnxruntime_mobile, tensorrt"),
        ("onnxruntime_mobile", "int4", r"found --scheme int4, onnxruntime_mobile has fp32, int8"),
        (None, "int4", r"found --scheme int4, onnxruntime_mobile has fp32, int8; tensorrt has fp16"),
    ],
)
def test_what_a_run_does_not_have_is_named(run: Path, target: str | None, scheme: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        explain_run(run, target, scheme, Console(quiet=True))


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no report\.json there"):
        explain_run(tmp_path, None, None, Console(quiet=True))


def test_an_artifact_that_is_gone_is_named(run: Path, tmp_path: Path) -> None:
    rows = [replace(row, files={"artifacts/gone/model.ort": "0"}) for row in Report.read(run).rows[:1]]
    _write(tmp_path, [replace(rows[0], role="chosen")])
    with pytest.raises(
        InputError, match=r"artifacts/gone/model\.ort of onnxruntime_mobile fp32 is not there; run the recipe"
    ):
        explain_run(tmp_path, None, None, Console(quiet=True))


def test_another_machine_and_a_busy_one_are_said(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report.read(run)
    _write(run, report.rows, machine={"cpu": "another one"})
    monkeypatch.setattr("psutil.getloadavg", lambda: (7.5, 0.0, 0.0))
    notes = explain_run(run, "onnxruntime_mobile", "fp32", Console(quiet=True)).notes
    _write(run, report.rows)
    assert any("The run was measured on another machine (another one)" in note for note in notes)
    assert any("Something else runs on this machine (load 7.5)" in note for note in notes)
    assert any("Profiled here at batch 2, 1 thread" in note for note in notes)


def test_other_targets_are_compared_at_the_runs_own_ratio(run: Path) -> None:
    report = Report.read(run)
    other = replace(report.rows[2], target="openvino", latency=(Latency(2, {}, 1, 5e-5, ((5e-5,),)),))
    verdict = Verdict("openvino", "rejected", "fp32", ())
    both = replace(report, rows=(*report.rows, other), verdicts=(*report.verdicts, verdict))
    assert dict(explaining._others(both, report.rows[2], 3e-4)) == {"openvino fp32 (outside the budget)": 1.5e-4}


def test_inputs_follow_the_runs_sizes() -> None:
    specs = (
        TensorSpec("ids", "int64", ("batch", "length")),
        TensorSpec("mask", "bool", ("batch", "other")),
        TensorSpec("image", "float32", ("batch", 3, 4, 4)),
    )
    arrays = profile_inputs(specs, batch_size=3, sizes={"length": 7})
    assert {name: (array.shape, str(array.dtype)) for name, array in arrays.items()} == {
        "ids": ((3, 7), "int64"),
        "mask": ((3, EXTENT), "bool"),
        "image": ((3, 3, 4, 4), "float32"),
    }
    assert (arrays["ids"] == 1).all()
    again = profile_inputs(specs, batch_size=3, sizes={"length": 7})
    assert np.array_equal(arrays["image"], again["image"])


def test_the_command_prints_the_changes_before_the_tables_and_writes_json(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "explanation.json"
    arguments = ["explain", str(run), "--target", "onnxruntime_mobile", "--scheme", "int8", "--json", str(out)]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "150"})
    assert done.exit_code == 0, done.output
    headings = ["What would help most", "What the figures say", "where the time goes", "The most costly layers"]
    places = [done.output.index(heading) for heading in headings]
    assert places == sorted(places)
    assert re.search(r"convolutions, int8 +2 ", done.output)
    written = json.loads(out.read_text())
    assert written["explanations"][0]["layers"][0]["time"]["name"]
    assert str(run) not in out.read_text()
