"""INT8 artifacts for arm64 on (emulated) ARM and on x86; the counting itself with this Python on both sides."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from onnx.version_converter import convert_version

from compress.samples import calibration_of
from compress.workload import TensorBatches
from export.errors import EnvironmentFailure, InputError
from tests.arm.agreement import Agreement, agreement, compiled_for_arm, exported, scores, spread
from tests.arm.emulated import PYTHON, unavailable
from tests.examples.conftest import Load, load
from tests.targets import networks

__all__ = ["load"]

emulated = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "")
HERE = Path(sys.executable)


@emulated
@pytest.mark.parametrize("case", [("convolutional", "images", "int8"), ("attention", "sentences", "int8-dynamic")])
def test_kernels_of_arm_compute_what_the_operators_of_onnx_mean(case: tuple[str, str, str], tmp_path: Path) -> None:
    """Against ONNX's reference evaluator, in NumPy. Sums of 8-bit products are exact; each rounding may move by a step.

    x86 is no reference for unsigned activations: without VNNI it adds pairs of products in 16 bits, and full 8-bit
    weights overflow them. Of the dynamic case's 64 predictions it then answers 3 otherwise, scores by 43 % of their spread.
    """
    network, samples, scheme = case
    make, inputs = getattr(networks, network), getattr(networks, samples)
    model = compiled_for_arm(make(tmp_path / "model-in.onnx"), [inputs(32)], scheme, tmp_path)
    there, found = scores(PYTHON, model, [inputs(64, seed=1)])
    meaning = convert_version(onnx.load(tmp_path / "quantized.onnx"), 21)  # the evaluator has no DequantizeLinear of 18
    (expected,) = ReferenceEvaluator(meaning).run(None, inputs(64, seed=1))
    assert there.startswith("aarch64")
    assert np.abs(found - expected).max() < 0.02 * expected.std()


@emulated
def test_of_500_digits_at_most_one_is_read_otherwise_on_arm(load: Load, tmp_path: Path) -> None:
    workload = load("digits", "workload").digits()
    calibration = list(calibration_of(workload, 100))
    model = compiled_for_arm(exported(workload, tmp_path / "model-in.onnx"), calibration, "int8", tmp_path)
    found = agreement(model, spread(workload.evaluation, 500))
    assert found.predictions == 500
    assert found.agrees, found


def test_the_same_processor_agrees_with_itself(tmp_path: Path) -> None:
    model = compiled_for_arm(networks.convolutional(tmp_path / "in.onnx"), [networks.images(32)], "int8", tmp_path)
    found = agreement(model, [networks.images(64), networks.images(36, seed=1)], HERE)
    assert (found.predictions, found.differ, found.difference) == (100, 0, 0.0)


@pytest.mark.parametrize(
    ("predictions", "differ", "agrees"),
    [
        (500, 0, True),
        (500, 1, True),
        (500, 2, False),
        (10_000, 20, True),
        (10_000, 21, False),
        (64, 1, True),
        (64, 2, False),
    ],
)
def test_one_in_500_may_differ(predictions: int, differ: int, agrees: bool) -> None:
    found = Agreement("x86_64", "aarch64", predictions, differ, 0.01)
    assert found.agrees is agrees
    assert f"{differ} of {predictions} predictions differ" in str(found)


def test_an_interpreter_that_fails_is_named_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "broken.ort").write_bytes(b"not a model")
    with pytest.raises(EnvironmentFailure, match=r"predict\.py failed \(1\): .*ONNXRuntimeError"):
        agreement(tmp_path / "broken.ort", [networks.images(2)], HERE)


def test_a_scheme_that_arm_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"scheme 'fp8': arm64 knows int8-dynamic, int8,"):
        compiled_for_arm(networks.convolutional(tmp_path / "in.onnx"), [], "fp8", tmp_path)


def test_samples_are_spread_over_the_whole_set() -> None:
    batches = TensorBatches({"x": torch.arange(10.0)[:, None]}, torch.zeros(10, dtype=torch.long), batch_size=4)
    assert [batch["x"].ravel().tolist() for batch in spread(batches, 4)] == [[0.0, 3.0], [6.0], [9.0]]
    assert np.concatenate([batch["x"] for batch in spread(batches, 99)]).ravel().tolist() == list(range(10))


def test_the_file_for_the_device_needs_numpy_and_the_runtime_alone() -> None:
    text = Path(__file__).with_name("predict.py").read_text()
    imports = {line.split()[1] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert imports == {"__future__", "platform", "sys", "numpy", "onnxruntime"}
