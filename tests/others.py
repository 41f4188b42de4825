"""Distributions of another author, as a folder on sys.path holds them once they are installed: packages and a dist-info."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

TARGET = '''\
"""Plain ONNX Runtime on the .onnx file, as it is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.util import find_spec
from typing import ClassVar

from export.bundle.manifest import Runtime
from export.errors import UnsupportedError
from targets import FP32, Engine, Needs

from .session import PlainSession


@dataclass(frozen=True)
class Plain:
    """ONNX Runtime without a conversion.

    Args:
        optimise: let ONNX Runtime optimise the graph when it is loaded.
    """

    name: ClassVar[str] = "plain"

    optimise: bool = True

    @classmethod
    def runtime_module(cls):
        return "onnxruntime"

    def unavailable(self):
        return None if find_spec("onnxruntime") else "onnxruntime not installed; pip install acme-plain"

    def cannot_run(self):
        return self.unavailable()

    def schemes(self, model=None):
        return (FP32,)

    def compile(self, model, scheme, out):
        start, path = time.perf_counter(), out / "model.onnx"
        for node in model.proto().graph.node:
            if node.domain not in ("", "ai.onnx"):
                raise UnsupportedError(f"plain: no operator {node.op_type} (node '{node.name}'); leave the target out")
        path.write_bytes(model.path.read_bytes())
        took = time.perf_counter() - start
        return Engine(
            self.name, scheme.name, path, (path,), model.inputs, model.outputs, took, settings={"optimise": self.optimise}
        )

    def needs(self, engine):
        return Needs(Runtime("onnxruntime", "1.19", built_with=""))

    def load(self, engine, threads):
        return PlainSession(engine, threads)

    def load_concurrent(self, engine, threads):
        return [PlainSession(engine, 1) for _ in range(threads)]

    def profile(self, engine, inputs, threads, runs):
        raise UnsupportedError("plain: does not tell of layers")
'''

SESSION = """\
import onnxruntime


class PlainSession:
    def __init__(self, engine, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if engine.settings["optimise"] else levels.ORT_DISABLE_ALL
        self._session = onnxruntime.InferenceSession(str(engine.path), options, providers=["CPUExecutionProvider"])
        self._names = [spec.name for spec in engine.outputs]

    def run(self, inputs):
        return dict(zip(self._names, self._session.run(self._names, dict(inputs))))

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        pass
"""

STEP = '''\
"""Weights of few digits, as a file of another author holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from compress.step import StepResult


@dataclass(frozen=True)
class RoundWeights:
    """Round every parameter to `bits` bits after the point."""

    kind: ClassVar[str] = "round_weights"

    bits: int = 6

    def __post_init__(self):
        if not 0 <= self.bits <= 16:
            raise ValueError(f"bits: found {self.bits}, allowed: 0 to 16")

    def apply(self, model, context):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_((parameter * 2**self.bits).round() / 2**self.bits)
        return StepResult(model, {"bits": self.bits})

    def restore(self, model, folder):
        return model
'''

PLAIN = {"acme_plain/__init__.py": "", "acme_plain/target.py": TARGET, "acme_plain/session.py": SESSION}
PLAIN_ENTRY = "[edge_compress.targets]\nplain = acme_plain.target:Plain\n"


def install(site: Path, name: str, entry_points: str, files: Mapping[str, str], version: str = "1.0") -> Path:
    """Write a distribution into a folder that is, or will be, on sys.path; the folder."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / "entry_points.txt").write_text(entry_points)
    for place, source in files.items():
        (site / place).parent.mkdir(parents=True, exist_ok=True)
        (site / place).write_text(source)
    return site


def install_plain(site: Path) -> Path:
    """acme-plain 1.0 with the target `plain`, and acme-steps 2.1 with the step `round_weights`."""
    install(site, "acme-plain", PLAIN_ENTRY, PLAIN)
    entry = "[edge_compress.steps]\nround_weights = acme_steps:RoundWeights\n"
    return install(site, "acme-steps", entry, {"acme_steps.py": STEP}, version="2.1")
