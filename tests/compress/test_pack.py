"""What a run ships, packed. The artifact is compiled and its answers are real, what was measured is made up.

A run from recipe to bundle is in test_pipeline.py.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.device.main import main as runner
from benchmarks.metrics import Accuracy
from benchmarks.preprocessing import ImagePreprocessing
from benchmarks.report import Report
from compress.cli import main as command
from compress.pack import _for_platform, pack
from compress.pack.golden import answered
from compress.pack.kept import keep
from compress.pack.private import check_private
from compress.run_directory import sha256_of
from compress.samples import read_split
from compress.workload import TensorBatches, Workload
from export.bundle.verify import unpacked, verify
from export.errors import InputError, QualityError, SecurityError, UnsupportedError
from targets import FP32
from targets.isa import architecture
from targets.onnxruntime_mobile import OnnxRuntimeMobile
from targets.openvino import OpenVino
from tests.benchmarks.render.made_up import made_up_report
from tests.targets import networks

TARGET = "onnxruntime_mobile"
OTHER: Any = "arm64" if architecture() == "amd64" else "amd64"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "run"
    artifact = folder / "artifacts" / TARGET / "fp32"
    artifact.mkdir(parents=True)
    engine = OnnxRuntimeMobile(also_for=(OTHER,)).compile(networks.convolutional(folder / "in.onnx"), FP32, artifact)
    (artifact / "engine.json").write_text(json.dumps(engine.to_json(artifact)))
    report = made_up_report()
    files = {str(file.relative_to(folder)): sha256_of(file) for file in engine.files}
    rows = [
        replace(row, scheme="fp32", files=files) if (row.target, row.role) == (TARGET, "chosen") else row
        for row in report.rows
    ]
    replace(report, rows=tuple(rows)).write(folder / "report.json")
    keep(workload(), read_split("validation", workload().train), folder)
    monkeypatch.chdir(tmp_path)
    return folder


def workload() -> Workload:
    images = {"image": torch.randn(40, 3, 12, 12, generator=torch.Generator().manual_seed(0))}
    batches = TensorBatches(images, torch.zeros(40, dtype=torch.int64), batch_size=16)
    return Workload(
        model=torch.nn.Identity(),
        example_inputs={"image": images["image"][:2]},
        dynamic_axes={},
        train=batches,
        evaluation=batches,
        loss=torch.nn.functional.cross_entropy,
        metric=Accuracy(),
        class_names=("north", "east", "south", "west"),
        preprocessing=ImagePreprocessing("image", size=(12, 12)),
        licence="CC0-1.0",
    )


def rejected(run: Path) -> None:
    value = json.loads((run / "report.json").read_text())
    [verdict] = [each for each in value["verdicts"] if each["target"] == TARGET]
    verdict |= {"decision": "rejected", "findings": ["accuracy falls by 20 pp"]}
    (run / "report.json").write_text(json.dumps(value))


def test_a_file_holds_what_the_report_says(run: Path) -> None:
    packed = pack(run, TARGET, Path("x.compress"))
    manifest, row = packed.bundle.manifest, Report.read(run).chosen(TARGET)
    assert row is not None and row.evaluation is not None
    assert sorted(manifest.files) == ["golden/0-in-0.npy", "golden/0-out-0.npy", "model/model.ort", "runner.pyz"]
    assert [manifest.files["model/model.ort"].sha256] == list(row.files.values())
    assert manifest.metric["value"] == row.evaluation.value and manifest.metric["samples"] == row.evaluation.samples
    assert manifest.class_names == ("north", "east", "south", "west") and manifest.licence == "CC0-1.0"
    assert manifest.preprocessing is not None and manifest.preprocessing["size"] == [12, 12]
    assert [latency["batch_size"] for latency in manifest.latency] == [latency.batch_size for latency in row.latency]
    assert "block_medians_s" not in manifest.latency[0] and manifest.machine["cpu"] == "AMD Zen 5"
    assert manifest.golden.groups[0].samples == 16 and manifest.golden.answered_by == "this engine where it was packed"
    assert manifest.runtime.architecture == architecture() and manifest.made_from["hashes"]
    assert "also_for" not in manifest.engine["settings"]
    total = Path("x.compress").stat().st_size
    assert packed.overhead_bytes == total - packed.model_bytes - packed.golden_bytes
    assert packed.overhead_bytes < 50_000 + 0.03 * packed.model_bytes
    assert sorted(path.name for path in Path().iterdir()) == ["run", "x.compress"]


def test_the_golden_inputs_are_answered_as_by_the_engine(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import onnxruntime

    bundle = pack(run, TARGET, Path("folder")).bundle
    assert Path("folder").is_dir() and verify(Path("folder")).digest == bundle.digest
    inputs, outputs = (np.load(f"folder/golden/0-{kind}-0.npy") for kind in ("in", "out"))
    session = onnxruntime.InferenceSession("folder/model/model.ort", providers=["CPUExecutionProvider"])
    [found] = session.run(None, {"image": inputs})
    np.testing.assert_allclose(found, outputs, atol=1e-5)
    assert bundle.manifest.golden.tolerance["logits"] == pytest.approx(1e-3 * np.ptp(outputs), rel=1e-5)
    assert runner(["selftest", "folder"]) == 0
    assert "pass: 16 golden inputs" in capsys.readouterr().out


def test_the_file_of_another_platform(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = pack(run, TARGET, Path("other.compress"), platform=OTHER).bundle
    assert bundle.manifest.runtime.architecture == OTHER
    assert list(bundle.manifest.engine["files"]) == [f"model/model.{OTHER}.ort"] == [bundle.manifest.engine["path"]]
    assert bundle.manifest.engine["settings"]["platform"] == OTHER
    assert runner(["selftest", "other.compress"]) == 6
    assert f"the engine is compiled for {OTHER}, this machine is {architecture()}" in capsys.readouterr().err
    with pytest.raises(
        InputError, match=rf"the run holds no file for 'riscv'; it does for {architecture()}, {OTHER}\. Add"
    ):
        pack(run, TARGET, Path("x.compress"), platform="riscv")
    everywhere = OpenVino().compile(networks.convolutional(Path("in.onnx")), FP32, Path())
    with pytest.raises(InputError, match="the files of openvino are not made for one platform; leave it out"):
        _for_platform(everywhere, "arm64")


def test_a_file_of_another_platform_that_changed_is_refused(run: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(run, changed)
    [file] = changed.rglob(f"model.{OTHER}.ort")
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(QualityError, match=rf"model\.{OTHER}\.ort: is not the file that was compiled"):
        pack(changed, TARGET, Path("x.compress"), platform=OTHER)


def test_golden_inputs_are_single_samples(tmp_path: Path) -> None:
    """An engine that takes eight at once cannot answer them one by one."""
    model = networks.convolutional(tmp_path / "in.onnx")
    engine = OnnxRuntimeMobile().compile(model, FP32, tmp_path)
    engine = replace(engine, inputs=(replace(engine.inputs[0], shape=(8, 3, 12, 12)),))
    with pytest.raises(UnsupportedError, match="has its batch fixed at 8, and golden inputs are single samples"):
        answered(OnnxRuntimeMobile(), engine, model.path, [])


def test_what_the_report_rejects_is_not_packed_unless_asked(run: Path) -> None:
    rejected(run)
    with pytest.raises(
        QualityError, match="rejects this artifact: accuracy falls by 20 pp; pack it all the same with --any"
    ):
        pack(run, TARGET, Path("x.compress"))
    assert not Path("x.compress").exists()
    pack(run, TARGET, Path("x.compress"), anyway=True)


@pytest.mark.parametrize("change", ["edit", "remove"])
def test_an_artifact_that_is_not_the_measured_one_is_refused(run: Path, change: str) -> None:
    model = next(run.glob("artifacts/*/fp32/model.ort"))
    if change == "remove":
        model.unlink()
    else:
        content = bytearray(model.read_bytes())
        content[-1] ^= 1
        model.write_bytes(content)
    with pytest.raises(QualityError, match=r"model\.ort: is not the file that was measured .*; run the recipe again"):
        pack(run, TARGET, Path("x.compress"))


def test_what_lies_there_stays(run: Path) -> None:
    Path("x.compress").write_text("mine")
    Path("empty").mkdir()
    for name in ("x.compress", "empty"):
        with pytest.raises(InputError, match=f"{name}: is there already; give another -o, or remove it"):
            pack(run, TARGET, Path(name))
    assert Path("x.compress").read_text() == "mine"
    with pytest.raises(InputError, match=r"there is no folder nowhere; make it, or give another -o"):
        pack(run, TARGET, Path("nowhere/x.compress"))


@pytest.mark.parametrize("name", ["x.compress", "folder"])
def test_what_an_interrupted_pack_left_is_in_nobodys_way(run: Path, name: str) -> None:
    if "." in name:
        Path(f".{name}.partial").write_text("half")
    else:
        Path(f".{name}.partial").mkdir()
    pack(run, TARGET, Path(name))
    assert sorted(path.name for path in Path().iterdir()) == sorted(["run", name])


def test_a_run_without_the_target_or_without_what_is_packed(run: Path) -> None:
    with pytest.raises(InputError, match=r"the run ships nothing for 'coreml'; it does for .*onnxruntime_mobile"):
        pack(run, "coreml", Path("x.compress"))
    told = json.loads((run / "device" / "workload.json").read_text())
    without = {name: value for name, value in told.items() if name != "postprocessing"}
    for file, content in (("workload.json", json.dumps(without).encode()), ("golden.npz", b"half")):
        (run / "device" / file).write_bytes(content)
        with pytest.raises(InputError, match=r"has no whole device/ folder .*; run the recipe again"):
            pack(run, TARGET, Path("x.compress"))
        (run / "device" / "workload.json").write_text(json.dumps(told))


def with_arguments(run: Path, **arguments: object) -> None:
    value = json.loads((run / "report.json").read_text())
    value["recipe"]["arguments"] = arguments
    (run / "report.json").write_text(json.dumps(value))


def test_a_private_path_does_not_leave_with_the_manifest(run: Path) -> None:
    with_arguments(run, note=f"made in {Path.home()}/data")
    with pytest.raises(
        SecurityError, match=r"manifest\.json: holds '.*', a path or name of this machine; it must not ship"
    ):
        pack(run, TARGET, Path("x.compress"))
    assert not Path("x.compress").exists()


def test_the_recipes_absolute_paths_leave_without_their_folders(run: Path) -> None:
    with_arguments(
        run,
        data=f"{Path.home()}/data/",
        others=["~/notes.txt", {"code": "/srv/build/net.py:make"}, "C:\\Users\\me\\x.pt"],
        beside="../net.safetensors",
        size=3,
    )
    packed = pack(run, TARGET, Path("x.compress"))
    assert packed.bundle.manifest.made_from["recipe"]["arguments"] == {
        "data": ".../data",
        "others": [".../notes.txt", {"code": ".../net.py:make"}, ".../x.pt"],
        "beside": "../net.safetensors",
        "size": 3,
    }


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"\x12Z/home/builder/project/x.py", "/home/builder"),
        (b"\x12/srv/build/place/net.onnx", "/srv/build"),
        (b"made on buildhost.", "buildhost"),
        (b"C:\\Users\\builder\\x", "builder"),
        (b"mail builder@example.org", "builder"),
        (bytes((1 << 20) - 5) + b"/home/builder" + bytes(9), "/home/builder"),
        (b"the builder and /home/builders and prebuildhost", None),
        (b"/builders/x builder.pyz", None),
    ],
)
def test_paths_and_names_of_the_machine_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, found: str | None
) -> None:
    monkeypatch.setattr("pathlib.Path.home", lambda: Path("/home/builder"))
    monkeypatch.setattr("pathlib.Path.cwd", lambda: Path("/srv/build"))
    monkeypatch.setattr("compress.pack.private.getpass.getuser", lambda: "builder")
    monkeypatch.setattr("compress.pack.private.socket.gethostname", lambda: "buildhost")
    monkeypatch.setattr("compress.pack.private.socket.getfqdn", lambda: "localhost")
    (tmp_path / "x").write_bytes(content)
    if found is None:
        check_private({"model/x": tmp_path / "x"})
        return
    with pytest.raises(SecurityError, match=f"model/x: holds '{found}', a path or name of this machine"):
        check_private({"model/x": tmp_path / "x"})


@pytest.mark.parametrize(("user", "here"), [("runner", "/app"), ("pytorch", "/model"), ("ab", "/"), ("", "/weights")])
def test_ordinary_words_that_are_names_of_this_machine_do_not_stop_a_pack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str, here: str
) -> None:
    """ "runner" is the user of GitHub's machines, "pytorch" the producer of every exported model, /model a layer."""
    monkeypatch.setattr("pathlib.Path.cwd", lambda: Path(here))
    monkeypatch.setattr("compress.pack.private.getpass.getuser", lambda: user)
    (tmp_path / "x").write_bytes(b'"runner.pyz" pytorch /model/Conv /weights ab /app/x')
    check_private({"model/x": tmp_path / "x"})


def test_the_commands_say_what_was_made_and_what_to_do(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def left(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["compress", *words])
        with pytest.raises(SystemExit) as found:
            command()
        printed = capsys.readouterr()
        return int(found.value.code or 0), printed.out + printed.err

    code, told = left("pack", str(run), "--target", TARGET)
    name = f"run-{TARGET}.compress"
    assert code == 0 and f"{name}: whole. digits for {TARGET} (fp32), 6 files" in told
    assert "Python 3.9 or later, pip install numpy 'onnxruntime>=1.19', then:" in told
    assert f"unzip -p {name} runner.pyz > runner.pyz && python runner.pyz selftest {name}" in told
    assert left("verify", name)[0] == left("selftest", name)[0] == 0
    content = bytearray(Path(name).read_bytes())
    content[len(content) // 2] ^= 1
    Path(name).write_bytes(content)
    for verb in ("verify", "selftest"):
        code, told = left(verb, name)
        assert code == 4 and told.startswith(f"compress: {name}: ") and told.count("\n") == 1
    assert left("pack", str(run), "--target", TARGET, "-o", name)[0] == 2
    rejected(run)
    assert left("pack", str(run), "--target", TARGET, "-o", "y.compress")[0] == 5


def test_packing_twice_differs_in_the_date_alone(run: Path) -> None:
    one, two = (pack(run, TARGET, Path(name)).bundle for name in ("a.compress", "b.compress"))
    assert dict(one.manifest.files) == dict(two.manifest.files)
    with unpacked(one) as folder:
        assert sha256_of(folder / "runner.pyz") == one.manifest.files["runner.pyz"].sha256
