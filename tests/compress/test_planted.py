"""Planted faults: artifacts that are broken after every gate of the compilation are caught by their own answers.

A tiny classifier goes through the real quantizer, compiler and runtime; what is planted is a class that is never given,
and a scale that becomes 0 on the way from the checked model to the compiled one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.accuracy import score, statistics_of
from benchmarks.metrics import Accuracy
from benchmarks.report import Row, Verdict
from compress.deploy.verdict import judge
from compress.quantize.model import quantize_model
from compress.recipe_settings import Budget
from export.model import OnnxModel
from targets.base import Arrays, Scheme
from targets.onnxruntime_mobile import OnnxRuntimeMobile

INT8 = Scheme("int8", "int8", "onnxruntime", reduce_range=True)
ANIMALS = ("ant", "bee", "cat", "dog")
WIDTH = 32
CENTRES = np.random.default_rng(0).uniform(0.0, 1.0, (len(ANIMALS), WIDTH))

Edit = Callable[[onnx.GraphProto], None]


def nearest_centre(path: Path) -> OnnxModel:
    """The class of the nearest centre: logits of x are x . c - |c|^2 / 2. The layer before it changes nothing."""
    weights = {"w1": np.eye(WIDTH), "w2": CENTRES.T, "b2": -0.5 * (CENTRES**2).sum(axis=1)}
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["same"], "first"),
        helper.make_node("Relu", ["same"], ["kept"], "relu"),
        helper.make_node("Gemm", ["kept", "w2", "b2"], ["logits"], "head"),
    ]
    graph = helper.make_graph(
        nodes,
        "nearest_centre",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(ANIMALS)])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return OnnxModel.read(path)


def samples(number: int, seed: int) -> tuple[Arrays, np.ndarray]:
    random = np.random.default_rng(seed)
    target = random.integers(0, len(ANIMALS), number)
    x = CENTRES[target] + random.normal(0.0, 0.2, (number, WIDTH))
    return {"x": np.maximum(x, 0.0).astype(np.float32)}, target


def verdict_on(folder: Path, plant: Edit) -> Verdict:
    """Quantize, plant, compile and judge as a run does."""
    model = nearest_centre(folder / "model.onnx")
    quantized = quantize_model(model, [samples(100, seed=1)[0]], INT8, folder / "quantized.onnx")
    proto = quantized.proto()
    plant(proto.graph)
    onnx.save(proto, quantized.path)
    target, out = OnnxRuntimeMobile(), folder / "artifact"
    out.mkdir()
    engine = target.compile(OnnxModel.read(quantized.path), INT8, out)
    original = target.compile(model, Scheme("fp32", "fp32", "none"), folder)
    evaluation = [samples(400, seed=2)]
    rows = [statistics_of(each, evaluation, Accuracy()).rows for each in (engine, original)]
    found = score(Accuracy(), *rows, "evaluation", ANIMALS)
    chosen = Row(engine.target, "original", engine.scheme, "chosen", "measured", evaluation=found)
    return judge(chosen, chosen, None, Budget(metric_drop=0.9), True, half_width_limit=0.05)


def nothing(graph: onnx.GraphProto) -> None:
    """Plant nothing."""


def never_given(animal: str) -> Edit:
    """Push the logit of a class far below the others."""

    def plant(graph: onnx.GraphProto) -> None:
        push = np.where([name == animal for name in ANIMALS], -1e4, 0.0).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(push, "push"))
        last = next(node for node in graph.node if "logits" in node.output)
        last.output[list(last.output).index("logits")] = "before"
        graph.node.append(helper.make_node("Add", ["before", "push"], ["logits"], "planted"))

    return plant


def zeroed_scale(of: str) -> Edit:
    def plant(graph: onnx.GraphProto) -> None:
        [scale] = [tensor for tensor in graph.initializer if tensor.name == f"{of}_scale"]
        scale.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(scale)), scale.name))

    return plant


def test_with_nothing_planted_the_artifact_is_accepted(tmp_path: Path) -> None:
    verdict = verdict_on(tmp_path, nothing)
    assert verdict.decision == "accepted"
    assert [finding.partition(":")[0] for finding in verdict.findings] == ["kept"]


@pytest.mark.parametrize("animal", ANIMALS)
def test_a_class_that_is_never_given_rejects_the_artifact_by_name(tmp_path: Path, animal: str) -> None:
    verdict = verdict_on(tmp_path, never_given(animal))
    _, target = samples(400, seed=2)
    own = int(np.sum(target == ANIMALS.index(animal)))
    assert verdict.decision == "rejected"
    assert verdict.findings[0].startswith(f"rejected: class '{animal}' is broken: ")
    assert verdict.findings[0].endswith(f" % → 0.0 % of its {own} samples are right")
    assert verdict.findings[1].startswith("kept: accuracy changes by −")  # the budget alone would have let it pass


@pytest.mark.parametrize("tensor", ["x", "w1", "kept", "w2"])
def test_a_scale_that_became_zero_after_the_gate_rejects_the_artifact(tmp_path: Path, tensor: str) -> None:
    verdict = verdict_on(tmp_path, zeroed_scale(tensor))
    assert verdict.decision == "rejected"
    assert verdict.findings[0].startswith("rejected: every sample is given class '")
    assert verdict.findings[0].endswith("': the artifact no longer tells its inputs apart")
