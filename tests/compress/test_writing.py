"""Models that write, through the whole chain: parts exported, caches pruned, quantized, compiled, judged by what they write."""

import numpy as np
import onnx
import pytest
from rich.console import Console

pytest.importorskip("transformers", reason="transformers is not installed: pip install edge-compress[nlp]")

import compress
from benchmarks.device.main import main as runner
from benchmarks.metrics import BLEU
from benchmarks.render.tables_writing import writing_table
from benchmarks.worker import Worker
from compress import explain as explaining
from compress.engines import read_engine
from compress.generation import Generation, Writing
from compress.generation.transformers_parts import causal_parts
from compress.pack import pack
from export.errors import InputError
from targets.generation.session import writing
from targets.tensorrt import TensorRt
from tests.compress.test_explain import ROOFLINE
from tests.compress.tiny_writers import PRUNE, write_writer

QUICK = ["benchmark.throughput=false", "benchmark.processes=1", "benchmark.half_width=0.9"]
LENGTHS = ["benchmark.sizes={length: 8}", "benchmark.lengths=[5]"]
TENSORRT = TensorRt(provider="tensorrt-rtx")
NO_GPU = TENSORRT.cannot_run()
ONLY_BUILT = ', tensorrt: {provider: tensorrt-rtx, compute_capabilities: ["8.9"]}'


@pytest.fixture(scope="module")
def gpt(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpt")
    recipe = write_writer(folder, "gpt", "onnxruntime_mobile", "int8-dynamic, int8, int8-weights", PRUNE)
    return folder / "run", compress.run(recipe, folder / "run", [*QUICK, *LENGTHS])


@pytest.fixture(scope="module")
def bart(tmp_path_factory):
    pytest.importorskip("openvino", reason="openvino is not installed: pip install edge-compress[openvino]")
    folder = tmp_path_factory.mktemp("bart")
    built = ONLY_BUILT if NO_GPU and not TENSORRT.unavailable() else ""
    recipe = write_writer(folder, "bart", f"onnxruntime_mobile, openvino{built}", "int8")
    return folder / "run", compress.run(recipe, folder / "run", QUICK)


def rows_of(report, role):
    return [row for row in report.rows if row.role == role and row.target not in ("torch", "tensorrt")]


def test_a_decoder_is_scored_by_perplexity_through_its_own_cache(gpt):
    _, report = gpt
    torch_value = report.rows[0].evaluation.value
    [original] = rows_of(report, "reference")
    assert report.metric == "perplexity"
    assert original.evaluation.value == pytest.approx(torch_value, rel=1e-4)
    # An untrained model of 24 words scores about 24; the rule was learned.
    assert torch_value < 8


def test_every_scheme_of_a_decoder_gives_answers_and_takes_less_room(gpt):
    _, report = gpt
    tried = {row.scheme: row for row in rows_of(report, "tried")}
    assert set(tried) == {"int8-dynamic", "int8", "int8-weights"}
    [final] = [row for row in rows_of(report, "stage") if row.stage == "prune"]
    for row in tried.values():
        assert row.status == "measured"
        assert row.size_bytes < final.size_bytes
        assert row.validation.value < 1.2 * final.validation.value


def test_pruned_heads_have_no_cache(gpt):
    run, _ = gpt
    heads = [_cache_heads(run / "stages" / stage / "decoder.onnx") for stage in ("0-original", "1-prune")]
    assert heads[0] == [4, 4, 4, 4]
    assert sum(heads[1]) < 16


def test_an_encoder_decoder_is_scored_by_what_it_writes(bart):
    _, report = bart
    assert report.metric == "bleu"
    assert report.rows[0].evaluation.value > 90  # the rule was learned
    for row in (*rows_of(report, "reference"), *rows_of(report, "tried"), *rows_of(report, "chosen")):
        assert row.status == "measured", row.reason
        assert row.validation.value > 80
        assert row.latency[0].median_s > 0


def test_an_artifact_of_parts_is_read_back_and_writes(bart):
    run, _ = bart
    engine = read_engine(run / "artifacts" / "onnxruntime_mobile" / "fp32")
    assert set(engine.parts) == {"encoder", "decoder"}
    assert {file.parent.name for file in engine.files} == {"encoder", "decoder"}
    prompt = {"input_ids": np.array([[5, 9, 14]]), "attention_mask": np.ones((1, 3), dtype=np.int64)}
    with Worker(engine) as worker:
        assert worker.run(prompt)["tokens"].tolist() == [[6, 10, 15, 1, 0, 0, 0, 0]]
    with Worker(writing(engine, new_tokens=2, stops=False)) as worker:
        assert worker.run(prompt)["tokens"].tolist() == [[6, 10]]


def test_every_fp32_engine_writes_what_torch_writes(gpt, bart):
    for run, prompt in (
        (gpt[0], {"input_ids": np.array([[3, 5, 8, 10, 13], [7, 8, 12, 13, 17]])}),
        (bart[0], {"input_ids": np.array([[5, 9, 14]]), "attention_mask": np.ones((1, 3), dtype=np.int64)}),
    ):
        engines = [read_engine(folder) for folder in sorted((run / "stages").glob("0-original-on-o*"))]
        answers = []
        for engine in engines:
            with Worker(writing(engine, beams=1, stops=False)) as worker:
                answers.append(worker.run(prompt)["tokens"])
        for answer in answers[1:]:
            np.testing.assert_array_equal(answer, answers[0])


def test_quantizing_reads_what_a_decoder_reads_while_it_writes(bart):
    """Its ranges come from the answer's tokens behind a cache: the Q/DQ decoder answers nearly as the float one."""
    run, _ = bart
    for part in ("encoder", "decoder"):
        graph = onnx.load(run / "stages" / "quantize-onnxruntime_mobile-int8" / f"{part}.onnx").graph
        assert any(node.op_type == "QuantizeLinear" for node in graph.node), part


def test_the_report_tells_the_first_token_and_each_further_one(gpt, bart):
    run, report = gpt
    table = writing_table(report)
    assert table is not None
    lines = [line for line in table.lines if line.kind != "heading"]
    [original] = rows_of(report, "reference")
    answer = next(each for each in original.latency if each.sizes == {"length": 8, "tokens": 6})
    first = next(each for each in original.latency if each.sizes == {"length": 8, "tokens": 1})
    assert 0 < first.median_s < answer.median_s
    [cells] = [line.cells for line in lines if line.cells[0].split() == ["original", "fp32"] and "8" in line.cells[1]][
        1:
    ]
    assert cells[1] == "length 8"
    assert float(cells[4]) == pytest.approx(6 / answer.median_s, rel=0.01)
    assert {each.sizes["length"] for each in report.chosen("onnxruntime_mobile").latency} == {8, 5}
    for text in ((run / "report.md").read_text(), (run / "report.html").read_text()):
        assert "first token" in text


def test_engines_of_the_original_write_what_torch_writes(gpt, bart):
    for _, report in (gpt, bart):
        assert not any("writes other tokens" in warning for warning in report.warnings)


def test_what_ships_is_packed_and_answers_as_in_the_run(gpt, bart, tmp_path, capsys):
    for run, target, asked in (
        (gpt[0], "onnxruntime_mobile", "3 5 8 10 13"),
        (bart[0], "onnxruntime_mobile", "5 9 14"),
        (bart[0], "openvino", "5 9 14"),
    ):
        bundle = pack(run, target, tmp_path / f"{run.parent.name}-{target}.compress", anyway=True).bundle
        assert runner(["selftest", str(bundle.path)]) == 0
        assert "pass: 16 golden inputs" in capsys.readouterr().out
        assert runner(["predict", asked, str(bundle.path)]) == 0
        answer = capsys.readouterr().out.split()
        assert answer == ["6", "10", "15"] if asked == "5 9 14" else len(answer) == 6


@pytest.mark.skipif(bool(TENSORRT.unavailable()), reason=str(TENSORRT.unavailable()))
@pytest.mark.skipif(NO_GPU is None, reason="there is a GPU here: the engines would run")
def test_tensorrt_builds_all_parts_says_that_they_were_not_run_and_packs_them(bart, tmp_path):
    run, report = bart
    rows = [row for row in report.rows if row.target == "tensorrt"]
    assert [(row.role, row.scheme) for row in rows][:2] == [("reference", "fp32"), ("tried", "int8")]
    for row in rows:
        assert row.status == "compiled", row.reason
        assert row.size_bytes > 0 and row.latency == () and row.validation is None
        assert NO_GPU in row.reason
    assert {(each.target, each.decision) for each in report.verdicts} >= {("tensorrt", "not run here")}
    assert "compiled, not run here" in (run / "report.md").read_text()
    parts = {"encoder", "decoder"}
    assert set(read_engine(run / "artifacts" / "tensorrt" / "int8").parts) == parts
    bundle = pack(run, "tensorrt", tmp_path / "x.compress", anyway=True).bundle.manifest
    assert {f"model/{part}/{file}" for part in parts for file in ("model.engine", "model.onnx")} <= set(bundle.files)
    assert bundle.golden.answered_by.startswith("ONNX Runtime, from the ONNX model")


def test_where_the_time_of_an_answer_goes_is_told_by_part(gpt, bart, monkeypatch):
    monkeypatch.setattr(explaining, "measure_roofline", lambda target, threads: ROOFLINE)
    for run, target, scheme, parts in (
        (gpt[0], "onnxruntime_mobile", "int8", ["decoder", "decoder"]),
        (bart[0], "openvino", "int8", ["encoder", "decoder"]),
    ):
        found = explaining.explain_run(run, target, scheme, Console(quiet=True)).explanations
        assert [each.part.partition(",")[0] for each in found] == parts
        for each in found:
            assert each.is_int8 and each.fp32_call_s is not None and each.layers


def test_a_metric_of_written_text_needs_prompts():
    with pytest.raises(InputError, match="metric 'bleu' judges written tokens, and validation and evaluation is None"):
        Writing(causal_parts, Generation(end=1, padding=0), BLEU((), str))


def _cache_heads(path):
    return [
        value.type.tensor_type.shape.dim[1].dim_value
        for value in onnx.load(path).graph.input
        if value.name.startswith("past_")
    ]
