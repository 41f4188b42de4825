"""A model that writes what it reads in a picture, through the whole chain: its source is no text and has no length."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from rich.console import Console

pytest.importorskip("transformers", reason="transformers is not installed: pip install edge-compress[nlp]")
pytest.importorskip("openvino", reason="openvino is not installed: pip install edge-compress[openvino]")

import compress
from benchmarks.device.main import main as runner
from benchmarks.render.tables_writing import writing_table
from benchmarks.report import Report
from benchmarks.worker import Worker
from compress import explain as explaining
from compress.bench_inputs import check_sizes
from compress.engines import read_engine
from compress.pack import pack
from compress.recipe_settings import Benchmark
from compress.workload import Workload
from export.errors import InputError
from targets.generation.session import writing
from tests.compress.test_explain import ROOFLINE
from tests.compress.tiny_writers import PRUNE, write_writer

TARGETS = ("onnxruntime_mobile", "openvino")
QUICK = ["benchmark.throughput=false", "benchmark.processes=1", "benchmark.half_width=0.9"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    folder = tmp_path_factory.mktemp("reader")
    recipe = write_writer(folder, "reader", ", ".join(TARGETS), "int8", PRUNE.replace("0.4", "0.2"))
    return folder / "run", compress.run(recipe, folder / "run", QUICK)


def strips(*greys: int) -> np.ndarray:
    """A picture of three strips: words 3 to 8 are levels 1 to 6 of 6; 0 is black."""
    return np.repeat(np.array(greys, np.float32) / 3, 4).reshape(1, 1, 1, 12).repeat(4, axis=2)


def test_it_is_judged_and_timed_by_what_it_writes(finished: tuple[Path, Report]) -> None:
    _, report = finished
    assert report.metric == "rougeL"
    assert report.rows[0].evaluation is not None and report.rows[0].evaluation.value > 0.9, "the rule was learned"
    for target in TARGETS:
        rows = [row for row in report.rows if row.target == target and row.role in ("reference", "chosen")]
        assert len(rows) == 2
        for row in rows:
            assert row.status == "measured", row.reason
            # The whole answer, and its first token.
            assert sorted(latency.sizes["tokens"] for latency in row.latency) == [1, 5]
            assert all(set(latency.sizes) == {"tokens"} for latency in row.latency)
    table = writing_table(report)
    assert table is not None
    assert {line.cells[1] for line in table.lines if line.kind != "heading"} == {"batch 1"}
    assert not any("writes other tokens than in torch" in warning for warning in report.warnings)


def test_every_fp32_engine_reads_a_picture(finished: tuple[Path, Report]) -> None:
    run, _ = finished
    for target in TARGETS:
        engine = read_engine(run / f"stages/0-original-on-{target}")
        assert [spec.name for spec in engine.inputs] == ["pixel_values"]
        with Worker(writing(engine, beams=1)) as worker:
            assert worker.run({"pixel_values": strips(2, 6, 0)})["tokens"].tolist() == [[4, 8, 1, 0, 0]]
            with pytest.raises(InputError, match="found inputs none; needs what the encoder reads"):
                worker.run({})


@pytest.mark.parametrize("target", TARGETS)
def test_a_bundle_reads_an_image(
    target: str, finished: tuple[Path, Report], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = pytest.importorskip("PIL.Image")
    run, _ = finished
    bundle = pack(run, target, tmp_path / "reader.compress", anyway=True).bundle.path
    assert runner(["selftest", str(bundle)]) == 0
    assert runner(["bench", str(bundle), "--seconds", "0.1"]) == 0
    assert "an answer of 5 tokens: first token" in capsys.readouterr().out
    levels = np.round(strips(3, 1, 2)[0, 0] * 255)
    image.fromarray(levels.astype(np.uint8)).save(tmp_path / "strips.png")
    assert runner(["predict", str(tmp_path / "strips.png"), str(bundle)]) == 0
    assert capsys.readouterr().out.split()[-3:] == ["w5", "w3", "w4"]
    assert runner(["predict", "3 1 2", str(bundle)]) == 2
    assert "3 1 2" in capsys.readouterr().err


def test_where_the_time_of_an_answer_goes(finished: tuple[Path, Report], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explaining, "measure_roofline", lambda target, threads: ROOFLINE)
    run, _ = finished
    found = explaining.explain_run(run, "onnxruntime_mobile", None, Console(quiet=True)).explanations
    assert {each.part for each in found} == {"encoder, a source", "decoder, one step after 2 tokens, 2 beams"}


def test_lengths_of_prompts_are_refused() -> None:
    workload = SimpleNamespace(example_inputs={"pixel_values": torch.zeros(2, 1, 4, 12)}, dynamic_axes={})
    with pytest.raises(
        InputError, match=r"benchmark.lengths: the workload reads no prompts of tokens but pixel_values"
    ):
        check_sizes(cast(Workload, workload), Benchmark(lengths=(5,)))
