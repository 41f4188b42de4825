"""Does the INT8 .ort that is made for arm64 answer on (emulated) ARM as it does on x86?

    python -m tests.arm.agreement examples/digits/digits.yaml
    python -m tests.arm.agreement examples/cifar10/resnet56-int8.yaml --set arguments.data=FOLDER --set arguments.weights=FILE

Takes the recipe's workload as it is, without the recipe's steps in torch, quantizes and compiles it for arm64 on this
machine, and runs the one file on both processors. Exit code 5 if more than one prediction in 500 differs. Another
interpreter may stand for the ARM (`--python`); no time is taken.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compress.load_workload import load_workload
from compress.quantize.model import quantize_model
from compress.recipe import load_recipe
from compress.samples import calibration_of, first_pass
from compress.workload import Batches, Workload, to_numpy
from export.errors import CompressError, EnvironmentFailure, InputError
from export.model import OnnxModel
from export.to_onnx import to_onnx
from targets.base import Arrays
from targets.onnxruntime_mobile import OnnxRuntimeMobile
from tests.arm.emulated import PYTHON, unavailable

ONE_IN = 500
CALIBRATION = 300
PREDICT = Path(__file__).with_name("predict.py")


@dataclass(frozen=True)
class Agreement:
    """The same .ort file on two processors. The first output holds scores, last axis the classes.

    Args:
        here, there: what each side says it is: machine and version of ONNX Runtime.
        difference: largest difference of a score, over the standard deviation of the scores.
    """

    here: str
    there: str
    predictions: int
    differ: int
    difference: float

    @property
    def agrees(self) -> bool:
        return self.differ * ONE_IN <= max(self.predictions, ONE_IN)

    def __str__(self) -> str:
        return (
            f"{self.there} against {self.here}: {self.differ} of {self.predictions} predictions differ, "
            f"scores by at most {self.difference:.2%} of their spread"
        )


def agreement(model: Path, batches: Sequence[Arrays], python: Path = PYTHON) -> Agreement:
    """Run an .ort file on this processor and with the interpreter `python`, in a process each."""
    here, expected = scores(Path(sys.executable), model, batches)
    there, found = scores(python, model, batches)
    differ = np.count_nonzero(expected.argmax(-1) != found.argmax(-1))
    difference = np.abs(expected - found).max() / expected.std()
    return Agreement(here, there, expected[..., 0].size, int(differ), float(difference))


def scores(python: Path, model: Path, batches: Sequence[Arrays]) -> tuple[str, np.ndarray]:
    """What an interpreter says it is, and the model's first output for all batches.

    Raises:
        EnvironmentFailure: with its last line, if it fails.
    """
    with tempfile.TemporaryDirectory(prefix="compress-arm-") as folder:
        inputs, outputs = Path(folder) / "inputs.npz", Path(folder) / "outputs.npz"
        named = {f"{index}/{name}": array for index, batch in enumerate(batches) for name, array in batch.items()}
        np.savez(inputs, **named)  # type: ignore[arg-type]
        command = [str(python), str(PREDICT), str(model), str(inputs), str(outputs)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = done.stderr.strip().rpartition("\n")[2]
            raise EnvironmentFailure(f"{python}: predict.py failed ({done.returncode}): {reason}")
        with np.load(outputs) as file:
            first = file.files[0].partition("/")[2]
            found = np.concatenate([file[f"{index}/{first}"] for index in range(len(batches))])
        return done.stdout.strip(), found


def compiled_for_arm(model: OnnxModel, calibration: Sequence[Arrays], scheme: str, folder: Path) -> Path:
    """The .ort file of a float model in one of the schemes for arm64."""
    target = OnnxRuntimeMobile("arm64")
    known = {each.name: each for each in target.schemes()}
    if scheme not in known:
        raise InputError(f"scheme '{scheme}': arm64 knows {', '.join(known)}")
    quantized = model
    if known[scheme].quantizer != "none":
        quantized = quantize_model(model, calibration, known[scheme], folder / "quantized.onnx")
    return target.compile(quantized, known[scheme], folder).path


def exported(workload: Workload, path: Path) -> OnnxModel:
    return to_onnx(workload.model, workload.example_inputs, workload.dynamic_axes, workload.output_names, path, 18)


def spread(batches: Batches, samples: int) -> list[Arrays]:
    """`samples` evenly spaced samples, batched as they come; all of them where there are no more."""
    total = sum(len(target) for _, target in first_pass(batches))
    wanted = np.unique(np.linspace(0, total - 1, min(samples, total)).round().astype(int))
    chosen, start = list[Arrays](), 0
    for inputs, target in first_pass(batches):
        rows = wanted[(wanted >= start) & (wanted < start + len(target))] - start
        if len(rows):
            chosen.append({name: array[rows] for name, array in to_numpy(inputs).items()})
        start += len(target)
    return chosen


def main() -> None:
    options = _options()
    try:
        found = _of_recipe(options)
    except CompressError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    print(found)
    sys.exit(0 if found.agrees else 5)


def _of_recipe(options: argparse.Namespace) -> Agreement:
    if options.python == PYTHON and (reason := unavailable()):
        raise EnvironmentFailure(reason)
    recipe = load_recipe(options.recipe, options.set)
    workload = load_workload(recipe)
    calibration_samples = recipe.quantize.calibration_samples if recipe.quantize else CALIBRATION
    with tempfile.TemporaryDirectory(prefix="compress-arm-") as folder:
        model = exported(workload, Path(folder) / "model-in.onnx")
        calibration = list(calibration_of(workload, calibration_samples))
        artifact = compiled_for_arm(model, calibration, options.scheme, Path(folder))
        return agreement(artifact, spread(workload.evaluation, options.samples), options.python)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="An INT8 .ort for arm64 on ARM and on x86.")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of compress run")
    parser.add_argument("--samples", type=int, default=ONE_IN, help="of the evaluation set, evenly spaced (500)")
    parser.add_argument("--scheme", default="int8", help="of onnxruntime_mobile on arm64 (int8)")
    parser.add_argument("--python", type=Path, default=PYTHON, help="the ARM's interpreter (.arm/bin/python)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
