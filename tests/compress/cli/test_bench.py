"""`compress bench`: its words, and the command as a user calls it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.bench import Bench, BenchRow
from benchmarks.latency import Protocol
from benchmarks.measurements import Footprint, Interval, Latency, Tail, Throughput
from compress.cli.bench import axis_sizes, bench_table, control_line, print_bench
from export.errors import InputError
from tests.compress.conftest import Cli
from tests.targets import networks


def row(name: str, median_s: float, faster: Interval | None) -> BenchRow:
    tails = (Tail(0.9, 64, 0.0015), Tail(0.99, 662, 0.0029), Tail(0.999, 6636, None))
    latency = Latency(1, {}, 1, median_s, ((median_s,) * 20,), calls=5000, tails=tails)
    footprint = Footprint(load_s=0.1, first_inference_s=0.004, peak_bytes=80_000_000, runtime_bytes=50_000_000)
    return BenchRow(name, "onnxruntime_mobile", 92_412, latency, None, faster, 3, 20, footprint, (), {"f": "ab"})


def made_up(control: Interval) -> Bench:
    rows = (row("big.onnx", 0.002, None), row("small.onnx", 0.001, Interval(2.0, 1.98, 2.02)))
    return Bench("2025-01-01T00:00:00+00:00", rows, control, Protocol(), {"image": (1, 3, 32, 32)}, {}, {})


STABLE, UNSTABLE = Interval(0.998, 0.992, 1.004), Interval(0.9, 0.8, 0.95)


def test_the_table_of_a_quiet_machine() -> None:
    table = bench_table(made_up(STABLE))
    assert table.title == "Latency on random inputs: image 1x3x32x32; 1 thread"
    assert table.headers[7] == "faster than\nbig.onnx"
    assert table.lines[1].cells == (
        "small.onnx",
        "onnxruntime_mobile",
        "92.4 KB",
        "1.00",
        "1.50",
        "2.90",
        "needs 1636 more",
        "2.00x [1.98, 2.02]",
        "3 of 20",
        "100",
        "4.00",
        "80.0 MB",
    )
    assert table.lines[0].cells[7] == "reference"
    assert "MLPerf's early-stopping rule" in table.notes[0]


def test_the_control_decides_whether_speed_is_claimed() -> None:
    assert control_line(made_up(STABLE)) == "A/A: 0.998 [0.992, 1.004]: stable"
    told = "A/A: 0.900 [0.800, 0.950]: unstable: no speed claim is made; close other programs and run again"
    assert control_line(made_up(UNSTABLE)) == told
    assert bench_table(made_up(UNSTABLE)).lines[1].cells[7] == "no claim"


def test_throughput_has_columns_of_its_own() -> None:
    found = made_up(STABLE)
    rows = [replace(each, latency=None, throughput=Throughput(1, 2, 2, 1234.6, ())) for each in found.rows]
    table = bench_table(replace(found, rows=tuple(rows), protocol=Protocol(threads=2, mode="throughput")))
    assert table.headers[3:6] == ("samples\na second", "at once", "more than\nbig.onnx")
    assert table.lines[1].cells[3:6] == ("1235", "2", "2.00x [1.98, 2.02]")
    assert table.title.startswith("Throughput on random inputs")


def test_what_is_wrong_with_answers_is_told_under_the_table() -> None:
    found = made_up(STABLE)
    liar = replace(found.rows[1], findings=("the engine remembers answers",))
    console = Console(width=200, record=True, file=io.StringIO())
    print_bench(replace(found, rows=(found.rows[0], liar)), console)
    assert "warning: small.onnx: the engine remembers answers" in console.export_text()


def test_sizes_are_read_and_other_words_refused() -> None:
    assert axis_sizes(["length=128", "a.1=2"]) == {"length": 128, "a.1": 2}
    for word in ("length", "=3", "length=0", "length=-1", "length=many"):
        with pytest.raises(InputError, match=rf"--size: found '{word}', allowed: AXIS=N with N from 1"):
            axis_sizes([word])
    with pytest.raises(InputError, match=r"--size: axis 'n' stands twice"):
        axis_sizes(["n=1", "n=2"])


def test_a_model_is_measured_and_written(cli: Cli, tmp_path: Path) -> None:
    networks.attention(tmp_path / "text.onnx")
    options = ("--seconds", "0.3", "--half-width", "0.5", "--batch", "2", "--size", "length=9", "--json", "found.json")
    code, out, err = cli("bench", "text.onnx", *options)
    assert (code, err) in ((0, ""), (5, ""))  # the machine of a test need not be quiet
    assert "Latency on random inputs: ids 2x9, mask 2x9; 1 thread" in out
    assert "A/A: " in out
    assert "written: found.json" in out
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["unstable"] is None) == (code == 0)
    assert found["rows"][0]["latency"]["calls"] > 0
    assert found["versions"]["onnxruntime"]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("absent.onnx",), 2, "compress: absent.onnx: no such file; give model files"),
        (("model.txt",), 2, "compress: model.txt: found a file of kind '.txt'"),
        (("text.onnx",), 2, "compress: text.onnx: axis 'length' of input 'ids' has no size of its own; add --size"),
        (("text.onnx", "--on", "tflite"), 2, "compress: --on: found 'tflite', allowed: onnxruntime, openvino"),
        (("text.onnx", "text.onnx"), 2, "compress: text.onnx: stands twice"),
        (("text.onnx", "--size", "length"), 2, "compress: --size: found 'length'"),
        (("text.onnx", "image.onnx", "--size", "length=9"), 2, "cannot be timed on the inputs of text.onnx"),
    ],
)
def test_mistakes_are_one_sentence(cli: Cli, tmp_path: Path, words: tuple[str, ...], code: int, sentence: str) -> None:
    networks.attention(tmp_path / "text.onnx")
    networks.convolutional(tmp_path / "image.onnx")
    found, out, err = cli("bench", *words)
    assert (found, out) == (code, "")
    assert err.startswith("compress: ")
    assert sentence in err
    assert len(err.splitlines()) == 1
