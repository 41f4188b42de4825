"""Whole runs on a tiny real problem, through real runtimes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import compress
from benchmarks.answers import answers_of
from benchmarks.device.selftest import selftest
from benchmarks.latency import Pool
from benchmarks.metrics import Accuracy
from benchmarks.report import Report
from benchmarks.samples_file import key_of, read_samples
from compress.gallery import EACH
from compress.pack import pack
from compress.pipeline import exit_code, run
from compress.run_directory import sha256_of
from export.bundle.verify import unpacked
from export.errors import EnvironmentFailure, InputError, QualityError, UnsupportedError
from targets import Arrays, Engine, target_class
from tests.compress.tiny import QUANTIZED, RECIPE, write_tiny

TWO_OUTPUTS = """

class Two(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, image):
        logits = self.inner(image)
        return logits, 2 * logits


def two():
    import dataclasses

    made = tiny()
    return dataclasses.replace(made, model=Two(made.model), output_names=("logits", "doubled"))
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Report]:
    folder = tmp_path_factory.mktemp("tiny")
    recipe = write_tiny(folder, RECIPE.replace("  - onnxruntime_mobile\n", "  - onnxruntime_mobile\n  - openvino\n"))
    report = compress.run(recipe, folder / "run", ["benchmark.throughput=true"], skip_unavailable=True)
    return recipe, folder / "run", report


def test_the_report_holds_every_row_it_should(finished: tuple[Path, Path, Report]) -> None:
    _, _, report = finished
    assert [stage.name for stage in report.stages] == ["original", "prune", "distill"]
    assert report.stages[0].macs / report.stages[1].macs >= 1.5
    assert report.stages[1].parameters < report.stages[0].parameters
    assert report.rows[0].target == "torch"
    for target in {verdict.target for verdict in report.verdicts}:
        rows = [row for row in report.rows if row.target == target]
        assert [(row.stage, row.role) for row in rows[:4]] == [
            ("original", "reference"),
            ("original", "control"),
            ("prune", "stage"),
            ("distill", "stage"),
        ]
        assert [row.role for row in rows].count("chosen") == 1
        assert any(row.role == "tried" for row in rows)


def test_the_evaluation_set_is_read_for_the_original_and_for_what_ships_only(
    finished: tuple[Path, Path, Report],
) -> None:
    for row in finished[2].rows:
        assert (row.evaluation is not None) == (row.role in ("reference", "chosen")), row
        assert row.status != "measured" or (row.validation is not None) == (row.role != "control")


def test_what_ships_carries_all_that_was_measured_of_it(finished: tuple[Path, Path, Report]) -> None:
    _, folder, report = finished
    rows = read_samples(folder)
    for target in report.targets:
        chosen, control = report.chosen(target), report.control(target)
        assert chosen is not None and control is not None
        if chosen.status != "measured":
            continue
        [latency] = chosen.latency
        assert latency.calls >= len(latency.blocks_s) > 0
        assert latency.distribution_s[0] <= latency.median_s <= latency.distribution_s[-1]
        assert [tail.needed for tail in latency.tails] == [64, 662, 6636]
        assert control.latency[0].faster_than_fp32 is not None
        assert chosen.throughput is not None and chosen.throughput.more_than_fp32 is not None
        assert chosen.findings == ()
        assert sum(layer.time_s for layer in chosen.layers) > 0
        assert chosen.evaluation is not None and len(chosen.evaluation.classes) == 2
        found = Accuracy().value(rows[key_of(target)])
        assert found == chosen.evaluation.value
        flips = int(np.sum(rows[key_of(target)][:, 0] != rows[key_of("torch")][:, 0]))
        assert len([flip for flip in report.gallery if flip.target == target]) == min(flips, EACH)


def test_reported_files_are_there_and_give_the_reported_accuracy(finished: tuple[Path, Path, Report]) -> None:
    recipe, folder, report = finished
    from compress.load_workload import load_workload
    from compress.recipe import load_recipe

    chosen = report.chosen("onnxruntime_mobile")
    assert chosen is not None and chosen.evaluation is not None
    for name, digest in chosen.files.items():
        assert sha256_of(folder / name) == digest
    model = next(name for name in chosen.files if name.endswith(".ort"))
    session = onnxruntime.InferenceSession(folder / model, providers=["CPUExecutionProvider"])
    workload = load_workload(load_recipe(recipe))
    right = [
        session.run(None, {"image": inputs["image"].numpy()})[0].argmax(1) == target.numpy()
        for inputs, target in workload.evaluation
    ]
    assert np.mean(np.concatenate(right)) == pytest.approx(chosen.evaluation.value)


def test_reports_are_written_and_read_back_the_same(finished: tuple[Path, Path, Report]) -> None:
    _, folder, report = finished
    assert Report.read(folder) == Report.read(folder / "report.json")
    assert Report.read(folder).rows[0] == report.rows[0]
    assert {"report.html", "report.md", "recipe.yaml"} <= {path.name for path in folder.iterdir()}
    assert not list(folder.rglob("*.partial"))


def test_no_path_of_this_machine_is_in_anything_written(finished: tuple[Path, Path, Report]) -> None:
    _, folder, _ = finished
    home = str(folder.parent).encode()
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in ("recipe.yaml", ".lock"):
            content = path.read_bytes()
            assert home not in content, path
            assert b"/site-packages/" not in content, path


@pytest.mark.parametrize("target", ["onnxruntime_mobile", "openvino"])
def test_what_ships_is_packed_and_passes_its_own_test(
    finished: tuple[Path, Path, Report], target: str, tmp_path: Path
) -> None:
    _, out, report = finished
    if reason := target_class(target)().unavailable():
        pytest.skip(reason)
    row = report.chosen(target)
    assert row is not None and row.files
    bundle = pack(out, target, tmp_path / "x.compress", anyway=True).bundle
    shipped = {entry.sha256 for name, entry in bundle.manifest.files.items() if name.startswith("model/")}
    assert shipped == set(row.files.values())
    with unpacked(bundle) as folder:
        found = selftest(bundle.manifest, folder)
    assert found.passed and found.samples == 16


def test_a_second_run_reuses_every_part(
    finished: tuple[Path, Path, Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one target, in a copy: what an earlier recipe left goes with the run."""
    recipe, folder, first = finished
    shutil.copytree(folder, tmp_path / "run")
    monkeypatch.setattr("compress.stages.to_onnx", lambda *_: pytest.fail("exported again"))
    monkeypatch.setattr("compress.engines.quantize_model", lambda *_: pytest.fail("quantized again"))
    again = run(recipe, tmp_path / "run", ["targets=[onnxruntime_mobile]"])
    assert again.hashes == first.hashes
    before = first.reference("onnxruntime_mobile")
    assert before is not None and again.reference("onnxruntime_mobile") is not None
    assert [row.files for row in again.rows if row.role == "reference"] == [{}, before.files]


def test_a_step_that_is_interrupted_leaves_no_stage_and_the_next_run_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_tiny(tmp_path)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("compress.distill.Distill.apply", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(recipe, tmp_path / "run")
    stages = sorted(path.name for path in (tmp_path / "run" / "stages").iterdir())
    assert stages == ["0-original", "0-original-on-onnxruntime_mobile", "1-prune"]
    assert not (tmp_path / "run" / "report.json").exists()
    before = (tmp_path / "run/stages/1-prune/model.safetensors").stat().st_mtime_ns
    monkeypatch.setattr("compress.pipeline.deploy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, tmp_path / "run")
    assert (tmp_path / "run/stages/2-distill/model.safetensors").is_file()
    assert (tmp_path / "run/stages/1-prune/model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (
            ["arguments.baseline=0.5"],
            QualityError,
            r"baseline: the workload states accuracy 0.5000 within 0, the original scores",
        ),
        (
            ["arguments.calibration_from=test"],
            InputError,
            r"calibration: 120 of its samples are evaluation samples too",
        ),
        (["arguments.scale=.inf"], InputError, r"a finite number is needed"),
        (["arguments.scale=1e39"], QualityError, r"NaN|infinite"),
        (["benchmark.sizes.length=7"], InputError, r"no dynamic axis 'length' in the workload"),
        (
            ["targets=[{openvino: {shapes: {bach: 1}}}]"],
            InputError,
            r"openvino\.shapes: no dynamic axis 'bach' in the workload; its dynamic axes: batch",
        ),
        (
            ["targets=[{openvino: {shapes: {batch: 4}}}]", "benchmark.batch_sizes=[1,4]"],
            InputError,
            r"openvino\.shapes\.batch: 4, but benchmark\.batch_sizes asks for 1, 4; give both the same",
        ),
    ],
)
def test_runs_that_must_not_start(tmp_path: Path, overrides: list[str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run(write_tiny(tmp_path), tmp_path / "run", overrides)
    assert not list(tmp_path.glob("run/stages/*"))
    assert not (tmp_path / "run" / "report.json").exists()


def test_a_target_that_is_not_installed_stops_the_run_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "targets.onnxruntime_mobile.OnnxRuntimeMobile.unavailable",
        lambda self: "needs onnxruntime: pip install onnxruntime",
    )
    with pytest.raises(
        UnsupportedError, match=r"onnxruntime_mobile: needs onnxruntime: pip install .*--skip-unavailable"
    ):
        run(write_tiny(tmp_path), tmp_path / "run")
    with pytest.raises(UnsupportedError, match=r"no target of the recipe can be compiled here"):
        run(write_tiny(tmp_path), tmp_path / "run", skip_unavailable=True)
    assert not (tmp_path / "run").exists()


def test_a_scheme_that_fails_is_a_row_with_its_reason_and_fp32_ships(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise UnsupportedError("the quantizer refuses node 'mix'")

    monkeypatch.setattr("compress.engines.quantize_model", refuse)
    report = run(write_tiny(tmp_path, QUANTIZED), tmp_path / "run")
    failed = [row for row in report.rows if row.status == "failed"]
    assert {row.reason for row in failed} == {"the quantizer refuses node 'mix'"}
    chosen = report.chosen("onnxruntime_mobile")
    assert chosen is not None
    assert chosen.scheme == "fp32"
    assert "no other scheme was offered or could be built" in chosen.reason


def test_a_model_with_two_outputs_goes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[str]()

    def noted(engine: Engine, pool: Pool, threads: int) -> list[Arrays]:
        asked.append(engine.target)
        return answers_of(engine, pool, threads)

    monkeypatch.setattr("compress.measuring.answers_of", noted)
    recipe = write_tiny(
        tmp_path,
        RECIPE.replace("workload.py:tiny", "workload.py:two").replace(
            "  - prune: {macs_ratio: 1.5, multiple_of: 1}\n", ""
        ),
    )
    with (tmp_path / "workload.py").open("a") as code:
        code.write(TWO_OUTPUTS)
    report = run(recipe, tmp_path / "run")
    assert [verdict.decision for verdict in report.verdicts] == ["accepted"]
    chosen = report.chosen("onnxruntime_mobile")
    assert chosen is not None
    session = onnxruntime.InferenceSession(
        tmp_path / "run" / next(iter(chosen.files)), providers=["CPUExecutionProvider"]
    )
    assert [output.name for output in session.get_outputs()] == ["logits", "doubled"]
    assert "torch" not in asked, "answers in this process, which has it already"
    assert report.rows[0].target == "torch" and report.rows[0].findings == ()


def test_an_operator_that_a_target_refuses_shows_before_any_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise UnsupportedError("onnxruntime_mobile: operator 'Einsum' of node 'mix' is not supported")

    monkeypatch.setattr("targets.onnxruntime_mobile.OnnxRuntimeMobile.compile", refuse)
    with pytest.raises(UnsupportedError, match=r"operator 'Einsum' of node 'mix'"):
        run(write_tiny(tmp_path), tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "stages").iterdir()] == ["0-original"]


def test_an_unmet_budget_is_exit_code_5_and_few_samples_are_warned_of(finished: tuple[Path, Path, Report]) -> None:
    recipe, folder, report = finished
    assert exit_code(report) == 0
    unmet = run(
        recipe,
        folder,
        [
            "targets=[onnxruntime_mobile]",
            "budget.speedup=1000",
            "budget.size_ratio=0.001",
            "steps.2.quantize.calibration_samples=50",
        ],
    )
    assert "calibration: 50 samples; below 100 the INT8 ranges depend on luck" in unmet.warnings
    assert {verdict.decision for verdict in unmet.verdicts} == {"rejected"}
    for verdict in unmet.verdicts:
        assert any("of each engine, 5 are needed to know how processes differ" in line for line in verdict.findings)
    assert exit_code(unmet) == 5


def test_a_worker_that_dies_is_an_environment_failure(finished: tuple[Path, Path, Report]) -> None:
    from benchmarks.worker import Worker
    from targets import Engine

    _, folder, _ = finished
    place = folder / "artifacts/onnxruntime_mobile/fp32"
    engine = Engine.from_json(json.loads((place / "engine.json").read_text()), place)
    with Worker(engine) as worker:
        worker._process.kill()
        with pytest.raises(
            EnvironmentFailure, match=r"onnxruntime_mobile/fp32: the worker process ended at 'run' with signal 9"
        ):
            worker.run({"image": np.zeros((1, 1, 12, 12), np.float32)})
