"""A model that writes, packed: all parts, golden answers, and a runner that writes without the packages of a desk."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.device.main import main as runner
from compress.pack import pack
from compress.pack.runner import MODULES, WRITING, make_runner, modules
from export.bundle.manifest import FILE, WRITES
from export.bundle.verify import Bundle, verify
from export.errors import InputError, UnsupportedError
from targets.isa import architecture
from tests.compress.test_runner import MEASURE, on_a_device
from tests.compress.writer_run import PROMPTS, TARGET, writer_run
from tests.export.bundle.bundles import with_manifest, zip_bytes
from tests.targets.writers import END, PADDING, START, greedy

OTHER: Any = "arm64" if architecture() == "amd64" else "amd64"


RUNNER = cache(make_runner)
"""Most of packing is making the runner, the same each time."""


@pytest.fixture(scope="module", autouse=True)
def runner_made_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("compress.pack.make_runner", RUNNER)
        yield


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("decoder")
    return pack(writer_run(folder, also_for=(OTHER,)), TARGET, folder / "x.compress").bundle


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("translator")
    return pack(writer_run(folder, encodes=True), TARGET, folder / "folder").bundle


def planted(bundle: Bundle, change: Callable[[dict[str, bytes]], None], path: Path) -> str:
    """A bundle with other contents whose checksums hold."""
    files = {name: b"".join(bundle.contents.read(name)) for name in bundle.contents.sizes}
    change(files)
    value = json.loads(files[FILE])
    for name, entry in value["files"].items():
        entry |= {"sha256": hashlib.sha256(files[name]).hexdigest(), "size_bytes": len(files[name])}
    path.write_bytes(zip_bytes(with_manifest(files, json.dumps(value).encode())))
    return str(path)


def test_it_holds_all_parts_and_how_they_write(decoder: Bundle, translator: Bundle) -> None:
    manifest = translator.manifest
    assert manifest.schema == decoder.manifest.schema == WRITES
    assert [name for name in manifest.files if name.startswith("model/")] == [
        "model/decoder/model.ort",
        "model/encoder/model.ort",
    ]
    assert sorted(manifest.engine["files"]) == ["model/decoder/model.ort", "model/encoder/model.ort"]
    assert manifest.engine["parts"]["encoder"]["path"] == "model/encoder/model.ort"
    assert manifest.engine["generation"]["start"] == START and manifest.engine["generation"]["new_tokens"] == 6
    assert manifest.postprocessing == {"kind": "text", "output": "tokens", "timed_tokens": 4}
    assert set(manifest.golden.tolerance) == {"logits"}
    assert sum(group.samples for group in manifest.golden.groups) == len(PROMPTS)
    assert set(decoder.manifest.engine["parts"]) == {"decoder"}


def test_golden_answers_are_those_of_the_formula(translator: Bundle) -> None:
    found = []
    for group in translator.manifest.golden.groups:
        prompts, tokens = (
            np.load(translator.path / name) for name in (group.inputs["input_ids"], group.outputs["tokens"])
        )
        found += list(zip(prompts.tolist(), tokens.tolist(), strict=True))
    assert sorted(found) == sorted((ids, greedy([*ids, START], 6)) for ids in PROMPTS)


def test_it_answers_as_where_it_was_packed(
    decoder: Bundle, translator: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    for bundle in (decoder, translator):
        assert verify(bundle.path).digest == bundle.digest
        assert runner(["selftest", str(bundle.path)]) == 0
        assert "pass: 4 golden inputs answered as by this engine where it was packed" in capsys.readouterr().out


def test_planted_logits_are_named(decoder: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = decoder.manifest.golden.groups[0].outputs["logits"]

    def change(files: dict[str, bytes]) -> None:
        values = np.load(io.BytesIO(files[name]))
        values[1, 2, 0] += 1.0
        held = io.BytesIO()
        np.save(held, values)
        files[name] = held.getvalue()

    assert runner(["selftest", planted(decoder, change, tmp_path / "x")]) == 5
    assert "fail: the logits of the answer differ by 1 at golden input 1, 0.0" in capsys.readouterr().out


def test_another_part_with_whole_checksums_is_found_by_its_answers(
    decoder: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its constant LOUD of 5 is 4 there."""

    def change(files: dict[str, bytes]) -> None:
        model = files["model/decoder/model.ort"]
        loud = np.float32(5).tobytes()
        assert model.count(loud) == 1
        files["model/decoder/model.ort"] = model.replace(loud, np.float32(4).tobytes())

    assert runner(["selftest", planted(decoder, change, tmp_path / "x")]) == 5
    assert "fail: the logits of the answer differ by " in capsys.readouterr().out


def test_it_writes_on_from_token_ids(decoder: Bundle, translator: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    for bundle, start in ((decoder, []), (translator, [START])):
        assert runner(["predict", "9, 9", str(bundle.path)]) == 0
        tokens = greedy([9, 9, *start], 6)
        written = tokens[: tokens.index(END)] if END in tokens else tokens
        assert capsys.readouterr().out == " ".join(map(str, written)) + "\n"
    assert runner(["predict", "nine nine", str(decoder.path)]) == 2
    assert "found 'nine nine'; the bundle holds no tokenizer, so give token ids, for" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("encodes", "given", "ids", "text"),
    # hell o _ w o r l d, and the end of the text that the preprocessing asks for
    [(False, "hello world", [11, 4, 5, 6, 4, 7, 3, 8, 3], "dr he"), (True, "hell", [11, 3, START], "hell")],
)
def test_it_writes_from_a_text_where_the_run_kept_a_tokenizer(
    encodes: bool, given: str, ids: list[int], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["<pad>", "h", "e", "l", "o", "\u0120", "w", "r", "d", "he", "ll", "hell"]
    tokenizer = {
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
        "post_processor": None,
        "model": {"type": "BPE", "vocab": {word: place for place, word in enumerate(words)}}
        | {"merges": ["h e", "l l", "he ll"]},
        "added_tokens": [
            {"content": "<pad>", "id": 0, "single_word": False, "lstrip": False, "rstrip": False, "special": True}
        ],
    }
    told = {"kind": "text", "tokenizer": "tokenizer.json", "mask": None, "longest": 20, "end": 3}
    run = writer_run(tmp_path, encodes, preprocessing=told)
    (run / "device" / "tokenizer.json").write_text(json.dumps(tokenizer))
    bundle = pack(run, TARGET, tmp_path / "x.compress").bundle
    assert "tokenizer.json" in bundle.manifest.files
    assert runner(["predict", given, str(bundle.path)]) == 0
    tokens = greedy(ids, 6)
    written = tokens[: tokens.index(END)] if END in tokens else tokens
    whole = "".join(words[token] for token in written if token != PADDING).replace("\u0120", " ")
    assert whole == (" " + text if encodes else text)  # what answers a text stands alone
    assert capsys.readouterr().out == text + "\n"
    assert runner(["predict", "", str(bundle.path)]) == 0  # the token behind every text is a prompt


def test_the_parts_of_another_platform(decoder: Bundle, tmp_path: Path) -> None:
    run = decoder.path.parent / "run"
    other = pack(run, TARGET, tmp_path / "other.compress", platform=OTHER).bundle.manifest
    assert [*other.engine["files"]] == [f"model/decoder/model.{OTHER}.ort"] == [other.engine["path"]]
    assert other.runtime.architecture == OTHER and other.engine["parts"]["decoder"]["path"] == other.engine["path"]


def test_a_run_that_kept_no_prompts_is_run_again(decoder: Bundle, tmp_path: Path) -> None:
    run = writer_run(tmp_path)
    path = run / "device" / "workload.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"postprocessing": None}))
    with pytest.raises(InputError, match=r"the run kept no prompts for a model that writes, .*; run the recipe again"):
        pack(run, TARGET, tmp_path / "x.compress")


def test_where_the_engine_cannot_run_its_parts_in_onnx_answer(
    decoder: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("targets.onnxruntime_mobile.OnnxRuntimeMobile.cannot_run", lambda self: "no such processor")
    run = writer_run(tmp_path)
    golden = pack(run, TARGET, tmp_path / "x.compress").bundle.manifest.golden
    assert golden.answered_by.startswith("ONNX Runtime, from the ONNX model")
    (run / "artifacts" / TARGET / "fp32" / "decoder" / "model.onnx").unlink()
    with pytest.raises(UnsupportedError, match=r"cannot run here, and no model\.onnx lies beside its decoder to ask"):
        pack(run, TARGET, tmp_path / "y.compress")


def test_only_a_bundle_that_writes_holds_what_writes() -> None:
    plain, writes = (set(modules(TARGET, each)) for each in (False, True))
    more = {name.replace("/", ".").removesuffix(".py").removesuffix(".__init__") for name in writes - plain}
    assert more >= WRITING and plain < writes
    assert more - WRITING == {"targets.generation.beams", "targets.generation.sampling"}
    assert len(RUNNER(TARGET)) < 50_000


def test_the_runner_of_another_model_says_whose_to_take(decoder: Bundle, tmp_path: Path) -> None:
    (tmp_path / "runner.pyz").write_bytes(RUNNER(TARGET))
    found = on_a_device(tmp_path, "runner.pyz", "selftest", str(decoder.path))
    assert found.returncode == 3 and found.stdout == ""
    assert found.stderr.startswith("error: this runner is of a model that does not write; take")


def test_it_needs_numpy_and_one_runtime(translator: Bundle, tmp_path: Path) -> None:
    (tmp_path / "runner.pyz").write_bytes((translator.path / "runner.pyz").read_bytes())
    found = on_a_device(tmp_path, "runner.pyz", "predict", "9 9", str(translator.path))
    assert (found.returncode, found.stderr) == (0, "")
    with zipfile.ZipFile(tmp_path / "runner.pyz") as archive:
        archive.extract(MODULES, tmp_path)
    script = MEASURE.replace(
        'found["latency"][0]["batch_size"]',
        '[each["sizes"]["tokens"] for each in (*found["latency"], *found["first_token"])]',
    )
    (tmp_path / "measure.py").write_text(script)
    for name in ("site", "temporary"):
        shutil.rmtree(tmp_path / name)
    found = on_a_device(tmp_path, "measure.py", str(translator.path))
    assert (found.returncode, found.stderr) == (0, "") and found.stdout.startswith("[4, 1] [")
