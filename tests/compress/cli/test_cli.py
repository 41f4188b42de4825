"""What a user of the command meets: the sentence, the exit code, no traceback, and nothing half-written."""

from __future__ import annotations

import errno
import json
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from jsonschema import Draft202012Validator
from safetensors.torch import save_file

from compress.cli import main
from compress.cli.init import name_of
from tests.compress.conftest import Cli
from tests.compress.tiny import QUANTIZED, RECIPE, WORKLOAD, write_tiny

HOLD = """
import sys, time
from pathlib import Path
from compress.run_directory import RunDirectory

with RunDirectory(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""

LOADED = (
    WORKLOAD
    + """

from pathlib import Path
from compress import load_weights

def loaded(weights):
    load_weights(Tiny(), Path(weights))
    return tiny()
"""
)


def test_a_recipe_of_ones_own_from_init_to_check(cli: Cli, tmp_path: Path) -> None:
    code, out, _ = cli("init", "mine", "--name", "mine")
    assert code == 0
    assert "next: fill in workload.py" in out
    code, out, err = cli("check", "mine/recipe.yaml")
    assert (code, err) == (0, "")
    assert "mine: the recipe, its workload and its data are in order" in out
    assert "20,234 parameters" in out
    assert "onnxruntime_mobile" in out
    code, _, err = cli("init", "mine")
    assert code == 2
    assert "recipe.yaml: is there already" in err


def test_a_recipe_is_named_after_its_folder_as_far_as_a_run_may_be_called_so(tmp_path: Path) -> None:
    assert name_of(tmp_path / "my model (2)") == "my-model-2"
    assert name_of(tmp_path / "été") == "t"
    assert name_of(tmp_path / "日本") == "my-model"


def test_schema_doctor_and_version(cli: Cli) -> None:
    code, out, _ = cli("schema")
    assert code == 0
    Draft202012Validator.check_schema(json.loads(out))
    code, out, _ = cli("doctor")
    assert code == 0
    assert "onnxruntime_mobile" in out
    assert "avx2" in out
    assert cli("--version")[1].startswith("edge-compress 0.")


def test_a_whole_run_prints_its_table_and_where_things_are_and_compares_with_a_copy(cli: Cli, tmp_path: Path) -> None:
    recipe = write_tiny(tmp_path, QUANTIZED)
    code, printed, err = cli("run", recipe, "--out", "one", "--set", "steps.0.quantize.calibration_samples=110")
    assert (code, err) == (0, "")
    assert "What ships" in printed
    assert "one/report.html" in printed
    report = json.loads((tmp_path / "one/report.json").read_text())
    assert report["command"].startswith("compress run ")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    code, printed, _ = cli("compare", "one", "two", "--html", "comparison.html")
    assert code == 0 and "worse: " not in printed
    assert "onnxruntime_mobile" in printed
    assert (tmp_path / "comparison.html").stat().st_size > 1000


@pytest.mark.parametrize("runs", [("one",), ("one", "two")])
def test_compare_needs_two_reports(cli: Cli, runs: tuple[str, ...]) -> None:
    code, _, err = cli("compare", *runs)
    assert code == 2
    assert "needs two runs or more, found 1" in err or "one: no report.json there" in err


def whole_model(path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), path)


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (open, ("canary", "w"))


def payload(path: Path) -> None:
    path.write_bytes(pickle.dumps({"state_dict": Payload()}))


def truncated(path: Path) -> None:
    save_file({"conv1.weight": torch.zeros(16, 1, 3, 3)}, path)
    path.write_bytes(path.read_bytes()[:-40])


def mismatching(path: Path) -> None:
    save_file({"conv1.weight": torch.zeros(8, 1, 3, 3), "surplus": torch.zeros(1)}, path)


def not_a_number(path: Path) -> None:
    from compress.user_code import _import

    module = _import("workload.py", Path.cwd(), "test")
    state = module.Tiny().state_dict()
    state["head.bias"][0] = float("nan")
    save_file(state, path)


@pytest.mark.parametrize(
    ("make", "code", "sentences"),
    [
        (None, 2, ["weights.bin"]),
        (whole_model, 4, ["weights.bin", "Linear"]),
        (payload, 4, ["weights.bin", "open"]),
        (truncated, 2, ["weights.bin", "bytes"]),
        (mismatching, 2, ["missing (13): conv1.bias", "surplus", "conv1.weight", "8, 1, 3, 3", "16, 1, 3, 3"]),
        (not_a_number, 5, ["head.bias", "1"]),
    ],
)
def test_bad_checkpoints(
    cli: Cli, tmp_path: Path, make: Callable[[Path], None] | None, code: int, sentences: list[str]
) -> None:
    recipe = write_tiny(tmp_path, RECIPE.replace("workload.py:tiny", "workload.py:loaded"))
    (tmp_path / "workload.py").write_text(LOADED)
    if make is not None:
        make(tmp_path / "weights.bin")
    for verb in ("check", "run"):
        found, _, err = cli(verb, recipe, "--set", "arguments.weights=weights.bin")
        assert found == code, err
        assert all(sentence in err for sentence in sentences), err
        assert "Traceback" not in err
    assert not (tmp_path / "canary").exists()
    assert not (tmp_path / "runs").exists()


def test_mistakes_in_a_recipe_come_together_without_a_traceback(cli: Cli, tmp_path: Path) -> None:
    recipe = write_tiny(tmp_path, RECIPE.replace("epochs: 1", "epoch: 1").replace("seconds: 0.2", "seconds: fast"))
    code, out, err = cli("run", recipe)
    assert code == 2
    assert out == ""
    assert len(err.splitlines()) == 2
    assert "recipe.yaml:6: steps[1].distill: unknown key 'epoch'" in err
    assert "Did you mean 'epochs'?" in err


def test_a_held_folder_and_a_foreign_folder(cli: Cli, tmp_path: Path) -> None:
    recipe = write_tiny(tmp_path)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("x")
    code, _, err = cli("run", recipe, "--out", "thesis")
    assert code == 2
    assert "holds 'chapter.tex', which is not of a run" in err
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "held")], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        code, _, err = cli("run", recipe, "--out", "held")
    finally:
        holder.kill()
        holder.wait()
    assert code == 6
    assert f"another run holds this folder (process {holder.pid})" in err


def test_a_full_disk_while_a_stage_is_written(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("compress.stages.save_weights", full)
    code, _, err = cli("run", write_tiny(tmp_path), "--out", "run")
    assert code == 6
    assert "the disk is full while writing stages/1-prune" in err
    assert not (tmp_path / "run" / "stages" / "1-prune").exists()


def test_debug_shows_the_traceback(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["compress", "--debug", "check", "missing.yaml"])
    with pytest.raises(Exception, match=r"cannot read the recipe"):
        main()


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_leaves_no_half_written_file(tmp_path: Path) -> None:
    import signal

    recipe = write_tiny(tmp_path, RECIPE.replace("epochs: 1", "epochs: 500"))
    # A job in a shell's background ignores SIGINT, and so would what it starts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "compress", "run", str(recipe), "--out", str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "run").glob(".scratch/*/*")) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: finished parts are kept" in err
    assert "Traceback" not in err
    stages = tmp_path / "run" / "stages"
    found = {path.name for path in stages.iterdir()}
    assert found == {"0-original", "0-original-on-onnxruntime_mobile", "1-prune"}
    assert not list((tmp_path / "run").glob("report*"))
