"""Models that write on TensorRT without a GPU: the run builds all parts in every scheme, says that they were not run, and packs them."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers", reason="transformers is not installed: pip install edge-compress[nlp]")

import compress
from compress.engines import read_engine
from compress.pack import pack
from targets.tensorrt import TensorRt
from tests.compress.tiny_writers import write_writer

TARGET = TensorRt(provider="tensorrt-rtx")
pytestmark = [
    pytest.mark.skipif(bool(TARGET.unavailable()), reason=str(TARGET.unavailable())),
    pytest.mark.skipif(TARGET.cannot_run() is None, reason="there is a GPU here: the engines would run"),
]
NAMED = 'tensorrt: {provider: tensorrt-rtx, compute_capabilities: ["8.9"]}'
QUICK = ["benchmark.throughput=false", "benchmark.processes=1"]


def test_a_run_builds_all_parts_says_that_they_were_not_run_and_packs_them(tmp_path):
    recipe, parts = write_writer(tmp_path, "bart", NAMED, "fp16, int8"), {"encoder", "decoder"}
    report = compress.run(recipe, tmp_path / "run", QUICK)
    rows = [row for row in report.rows if row.target == "tensorrt"]
    assert [(row.role, row.scheme) for row in rows] == [
        ("reference", "fp32"),
        ("tried", "fp16"),
        ("tried", "int8"),
        ("chosen", "fp16"),
    ]
    for row in rows:
        assert row.status == "compiled", row.reason
        assert row.size_bytes > 0 and row.latency == () and row.validation is None
        assert TARGET.cannot_run() in row.reason
    assert [(each.target, each.decision) for each in report.verdicts] == [("tensorrt", "not run here")]
    assert "compiled, not run here" in (tmp_path / "run" / "report.md").read_text()
    for scheme in ("fp16", "int8"):
        assert set(read_engine(tmp_path / "run" / "artifacts" / "tensorrt" / scheme).parts) == parts
    bundle = pack(tmp_path / "run", "tensorrt", tmp_path / "x.compress", anyway=True).bundle.manifest
    assert {f"model/{part}/{file}" for part in parts for file in ("model.engine", "model.onnx")} <= set(bundle.files)
    assert bundle.golden.answered_by.startswith("ONNX Runtime, from the ONNX model")
