from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import benchmarks.device.measure
from benchmarks.device.main import main
from benchmarks.device.measure import SCHEMA, measured_here
from benchmarks.latency import Protocol
from export.bundle.manifest import FILE
from export.bundle.verify import unpacked, verify
from export.errors import EnvironmentFailure, InputError, QualityError
from tests.benchmarks.device.packed import real_bundle, real_files
from tests.benchmarks.device.test_selftest import planted
from tests.export.bundle.bundles import bundle_files, write_folder, zip_bytes

QUICK = Protocol(seconds=0.05, processes=1, half_width=0.9)


def words(error: str) -> str:
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def test_verify_needs_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = bundle_files(change=lambda value: value.update(name="evil\x1b[2J\nname"))
    path = write_folder(files, tmp_path / "x")
    assert main(["verify", str(path)]) == 0
    line = capsys.readouterr().out
    assert line.startswith("x: whole. evil?[2J?name for onnxruntime_mobile (int8), 6 files, ") and line.count("\n") == 1


def test_a_reader_that_has_enough_gets_no_traceback(tmp_path: Path) -> None:
    """As `runner.pyz verify x | head -0` is: nobody reads what is printed."""
    path = write_folder(bundle_files(), tmp_path / "x")
    reading, writing = os.pipe()
    os.close(reading)
    code = f"import sys; from benchmarks.device.main import main; sys.exit(main(['verify', {str(path)!r}]))"
    left = subprocess.run([sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (left.returncode, left.stderr) == (141, "")


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tmp_path / "whole"
    whole.write_bytes(zip_bytes(bundle_files()))
    (tmp_path / "other").write_bytes(b"something else")
    assert main(["verify", str(tmp_path / "none")]) == 2
    assert "No such file or directory; give a bundle" in words(capsys.readouterr().err)
    assert main(["verify", str(tmp_path / "other")]) == 4
    assert words(capsys.readouterr().err).startswith("error: other: it is no bundle")
    assert main(["verify", str(whole)]) == 0
    monkeypatch.setattr("sys.argv", [str(tmp_path / "runner.pyz")])
    assert main(["verify"]) == 2
    assert "the runner does not lie in one; give the path of a bundle" in words(capsys.readouterr().err)
    for wrong in ([], ["fly"], ["bench", "--threads", "0"], ["bench", "--seconds", "nan"], ["bench", "--batch", "x"]):
        with pytest.raises(SystemExit) as left:
            main(wrong)
        assert left.value.code == 2


def test_beside_the_runner_lies_the_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(bundle_files(), tmp_path / "x")
    monkeypatch.setattr("sys.argv", [str(tmp_path / "x" / "runner.pyz")])
    assert main(["verify"]) == 0
    assert capsys.readouterr().out.startswith("x: whole.")


def test_no_numpy_is_a_sentence_and_verify_needs_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").write_bytes(zip_bytes(bundle_files()))
    monkeypatch.setattr("benchmarks.device.main.find_spec", lambda name: None)
    assert main(["verify", str(tmp_path / "x")]) == 0
    for command in (["selftest"], ["bench"], ["predict", "text"]):
        assert main([*command, str(tmp_path / "x")]) == EnvironmentFailure.exit_code == 6
        assert f"{command[0]} needs numpy, which is not installed; pip install numpy" in capsys.readouterr().err


def test_a_disk_that_cannot_be_read_and_one_that_is_full(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").write_bytes(zip_bytes(bundle_files()))

    def broken(*_: Any, **__: Any) -> Any:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("export.bundle.contents.read_entries", broken)
        assert main(["verify", str(tmp_path / "x")]) == 6
    assert words(capsys.readouterr().err) == "error: x: cannot be read: Input/output error\n"
    for place in ("tempfile.mkdtemp", "pathlib.Path.mkdir"):
        with monkeypatch.context() as patch:
            patch.setattr(place, broken)
            assert main(["selftest", str(tmp_path / "x")]) == 6
        assert "Input/output error" in words(capsys.readouterr().err)


def test_memory_and_ctrl_c(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for raised, code in ((MemoryError, 6), (KeyboardInterrupt, 130)):

        def fail(path: Path, kind: type[BaseException] = raised) -> Any:
            raise kind

        monkeypatch.setattr("benchmarks.device.main.verify", fail)
        assert main(["verify", "x"]) == code
        words(capsys.readouterr().err)


def test_measuring_gives_all_that_a_report_needs(tmp_path: Path) -> None:
    bundle = verify(real_bundle(tmp_path))
    with unpacked(bundle) as folder:
        found = measured_here(bundle, folder, QUICK, [1, 2])
    assert json.loads(json.dumps(found, allow_nan=False))["schema"] == SCHEMA
    assert set(found) == {
        *("schema", "created", "bundle", "target", "scheme", "protocol", "latency", "control", "footprint"),
        *("selftest", "findings", "warnings", "machine", "state_after", "versions", "label", "files"),
    }
    assert found["bundle"] == {"name": "small", "digest": bundle.digest}
    assert [latency["batch_size"] for latency in found["latency"]] == [1, 2]
    assert all(latency["median_s"] > 0 and latency["calls"] > 0 for latency in found["latency"])
    assert set(found["control"]) == {"1", "2"}, "the engine beside itself, at each batch size"
    assert all(row["low"] <= row["value"] <= row["high"] for row in found["control"].values())
    assert found["files"] == {"model/model.ort": bundle.manifest.files["model/model.ort"].sha256}
    assert found["selftest"]["findings"] == () and found["versions"]["onnxruntime"]


def test_a_model_that_answers_otherwise_is_not_timed(tmp_path: Path) -> None:
    bundle = verify(real_bundle(tmp_path, outputs=planted((0, 0), 1.0)))
    with (
        unpacked(bundle) as folder,
        pytest.raises(
            QualityError,
            match=r"x.compress: output 'logits' differs by 1 at golden input 0, .*; its speed is not measured",
        ),
    ):
        measured_here(bundle, folder, QUICK)


def test_a_batch_that_the_engine_does_not_take(tmp_path: Path) -> None:
    bundle = verify(
        real_bundle(tmp_path, change=lambda value: value["engine"]["inputs"][0].update(shape=[1, 3, 12, 12]))
    )
    with unpacked(bundle) as folder, pytest.raises(InputError, match="--batch 2: the engine has its batch fixed at 1"):
        measured_here(bundle, folder, QUICK, [1, 2])


def test_bench_writes_what_it_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    value = {
        "latency": [{"batch_size": 4, "median_s": 0.002, "calls": 1000}],
        "control": {"4": {"value": 1.0, "low": 0.99, "high": 1.01}},
        "findings": ["answers are remembered"],
        "warnings": ["the machine was hot"],
    }
    (tmp_path / "x").write_bytes(zip_bytes(bundle_files()))
    monkeypatch.setattr(benchmarks.device.measure, "measured_here", lambda *_: value)
    assert main(["bench", str(tmp_path / "x"), "--batch", "4", "--json", str(tmp_path / "out.json")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "batch 4: median 2 ms a call over 1,000 calls; A/A 1.000 [0.990, 1.010]",
        "warning: answers are remembered",
        "warning: the machine was hot",
    ]
    assert json.loads((tmp_path / "out.json").read_text()) == value
    assert main(["bench", str(tmp_path / "x"), "--json", str(tmp_path / "none" / "out.json")]) == 2
    assert "there is no such folder" in words(capsys.readouterr().err)


def test_an_image_gets_its_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pillow = pytest.importorskip("PIL.Image")
    recipe = {"kind": "image", "input": "image", "size": [12, 12], "mean": [0.5], "std": [0.25]}
    files = real_files(tmp_path / "made", change=lambda value: value.update(preprocessing=recipe))
    folder = write_folder(files, tmp_path / "x")
    pixels = np.random.default_rng(1).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    pillow.fromarray(pixels).save(tmp_path / "x.png")
    assert main(["predict", str(tmp_path / "x.png"), str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[1] for line in lines) == ["east", "north", "south", "west"]

    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / "model" / "model.ort"), providers=["CPUExecutionProvider"])
    scaled = ((pixels / 255 - 0.5) / 0.25).transpose(2, 0, 1)[None].astype(np.float32)
    [[logits]] = session.run(None, {"image": scaled})
    shares = np.exp(logits) / np.exp(logits).sum()
    best = int(shares.argmax())
    assert lines[0] == f"{shares[best]:7.2%}  {('north', 'east', 'south', 'west')[best]}"
    assert main(["predict", str(tmp_path / "none.png"), str(folder)]) == 2
    assert "give an image file" in words(capsys.readouterr().err)


def test_predict_without_preprocessing_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").write_bytes(zip_bytes(bundle_files()))
    assert main(["predict", "text", str(tmp_path / "x")]) == 2
    assert "give the workload a `preprocessing`, run and pack again" in words(capsys.readouterr().err)


def test_a_tokenizer_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = {"kind": "text", "tokenizer": FILE.replace("manifest", "tokenizer")}
    files = real_files(tmp_path / "made")
    value = json.loads(files[FILE])
    for content in (b"[]", b"\xff", b"[" * 100_000, b'{"normalizer": {"type": "BertNormalizer"}}'):
        made = bundle_files(
            extra={name: found for name, found in files.items() if "/" in name} | {"tokenizer.json": content},
            change=lambda planted: planted.update(
                {key: value[key] for key in ("engine", "golden")} | {"preprocessing": recipe}
            ),
        )
        (tmp_path / "x").write_bytes(zip_bytes(made))
        assert main(["predict", "text", str(tmp_path / "x")]) == 2
        assert "tokenizer.json: is no tokenizer.json" in words(capsys.readouterr().err)
