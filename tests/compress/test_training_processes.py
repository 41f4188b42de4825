"""Two CPU processes train what one trains, and none of them waits for one that is gone."""

from __future__ import annotations

import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from compress.training.processes import ALONE, Processes, current, launched
from tests.compress.tiny import write_tiny

ROOT = Path(__file__).parents[2]

SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from compress.checkpoint import save_weights
from compress.training.companion import accompany
from compress.distill import Distill
from compress.load_workload import load_workload
from compress.training.processes import together
from compress.recipe import load_recipe
from compress.step import StepContext

torch.set_num_threads(1)
mode, recipe, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])


def train(name, work, student, step):
    folder = out / name
    folder.mkdir()
    context = StepContext(work, work.model, folder, folder, seed=3, speedup=lambda model, target: 1.0)
    result = step.apply(student, context)
    save_weights(result.model, out / f"{name}.safetensors")


def run():
    if mode == "early":
        raise RuntimeError("before any training")
    work = load_workload(load_recipe(recipe))
    torch.manual_seed(5)
    step = Distill(2, 0.02, hints="attention", accumulate=2, precision="fp32")
    train("norms", work, type(work.model)(), step)
    without = type(work.model)()
    without.bn1, without.bn2 = nn.Identity(), nn.Identity()
    train("without", work, without, replace(step, optimizer="adamw"))
    if mode == "nan at last":
        work.train.inputs["image"][100] = torch.nan
        train("nan", work, type(work.model)(), step)


with together() as processes:
    if processes.rank > 0:
        accompany(recipe, (), processes)
    else:
        run()
"""


def write_script(folder: Path, name: str) -> list[str]:
    """The script with a recipe beside it, and its arguments but for the mode."""
    (folder / "script.py").write_text(SCRIPT)
    (folder / name).mkdir()
    return [str(write_tiny(folder)), str(folder / name)]


def start(mode: str, folder: Path) -> list[subprocess.Popen[str]]:
    """Two processes as a launcher starts them, each with its rank."""
    arguments = write_script(folder, "two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        subprocess.Popen(
            [sys.executable, str(folder / "script.py"), mode, *arguments],
            env=os.environ | shared | {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]


def ended(started: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit code and standard error of each; a process that waits for ever fails the test."""
    try:
        told = [process.communicate(timeout=120)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, text) for process, text in zip(started, told, strict=True)]


def test_two_processes_train_what_one_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """231 samples in batches of 64: the shares of the last one differ in size. With and without batch norm, and a third
    training that fails."""
    started = start("nan at last", tmp_path)
    monkeypatch.setattr(sys, "argv", ["script.py", "train", *write_script(tmp_path, "one")])
    runpy.run_path(str(tmp_path / "script.py"))
    (first, told), (second, other) = ended(started)
    assert first == 1 and "the loss is nan at epoch 1" in told
    assert second == 0, other
    for name in ("norms", "without"):
        one, two = (load_file(tmp_path / count / f"{name}.safetensors") for count in ("one", "two"))
        for key, weight in one.items():
            difference = (weight.float() - two[key].float()).abs().max() / weight.float().abs().max().clamp_min(1e-9)
            assert difference < 1e-3, f"{name} {key}"


def test_the_other_ends_when_the_first_fails_before_any_training(tmp_path: Path) -> None:
    (first, told), (second, other) = ended(start("early", tmp_path))
    assert first == 1 and "before any training" in told
    assert second == 0, other


def test_shares_cover_a_batch_and_weigh_one() -> None:
    target = torch.arange(7)
    batch = {"x": target[:, None].float()}, target
    shares = [Processes(rank, 3).share(batch) for rank in range(3)]
    assert torch.cat([mine[1] for mine, _ in shares]).tolist() == list(range(7))
    assert sum(weight for _, weight in shares) == pytest.approx(1)
    assert [len(mine[0]["x"]) / 7 for mine, _ in shares] == pytest.approx([weight for _, weight in shares])
    few = {"x": torch.ones(2, 1)}, torch.ones(2)
    assert [(len(mine[1]), weight) for mine, weight in (Processes(rank, 3).share(few) for rank in range(3))] == [
        (2, 1 / 3)
    ] * 3


def test_without_a_launcher_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert not launched() and current().count == 1
    assert ALONE.tell("word") == "word"
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert launched()
