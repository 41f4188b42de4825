"""The torch reference: a saved program computes exactly what the eager model does."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from compress.contract.test_session import check_concurrent
from export.errors import EnvironmentFailure, UnsupportedError
from export.to_onnx import save_reference
from targets.base import FP32, Engine
from targets.torch_reference import TorchReference
from tests.targets import networks


def _engine(model: nn.Module, inputs: dict[str, torch.Tensor], path: Path) -> Engine:
    specs = save_reference(model, inputs, {"image": {0: "batch"}}, path, ["logits"])
    return Engine("torch", "fp32", path, (path,), *specs, build_s=0.0)


def test_the_program_computes_what_the_module_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(800, 4)).eval()
    engine = _engine(model, {"image": torch.randn(2, 3, 12, 12)}, tmp_path / "model.program")
    batch = networks.images(3)
    with TorchReference().load(engine, threads=1) as session, torch.no_grad():
        np.testing.assert_array_equal(session.run(batch)["logits"], model(torch.from_numpy(batch["image"])).numpy())


def test_concurrent_sessions_answer_as_one_does_also_all_at_once(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(800, 4)).eval()
    engine = _engine(model, {"image": torch.randn(2, 3, 12, 12)}, tmp_path / "model.program")
    batches = [networks.images(2, seed) for seed in range(6)]
    with torch.no_grad():
        expected = [model(torch.from_numpy(batch["image"])).numpy() for batch in batches]
    check_concurrent(TorchReference().load_concurrent(engine, threads=2), batches, expected)


def test_every_thread_of_torch_works_on_one_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread of its own begins with OpenMP's number, here 2; torch's, when told, is what its operators take."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(800, 4)).eval()
    engine = _engine(model, {"image": torch.randn(2, 3, 12, 12)}, tmp_path / "model.program")
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(torch, "set_num_threads", lambda number: told.append((threading.get_ident(), number)))
    sessions = TorchReference().load_concurrent(engine, threads=2)
    told.clear()
    threads = [threading.Thread(target=session.run, args=(networks.images(2),)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == sorted((thread.ident, 1) for thread in threads)


def test_a_damaged_program_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "model.program"
    path.write_bytes(b"PK\x03\x04 not a program")
    with pytest.raises(EnvironmentFailure, match=r"model\.program: found no torch program; it is damaged"):
        TorchReference().load(Engine("torch", "fp32", path, (path,), (), (), 0.0), threads=1)


def test_it_does_not_compile(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="the reference runs the original"):
        TorchReference().compile(networks.convolutional(tmp_path / "model.onnx"), FP32, tmp_path)
