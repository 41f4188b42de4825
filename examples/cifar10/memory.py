"""Peak memory of calibration and of pruning at two numbers of samples: it should not grow with them. Linux.

    python examples/cifar10/memory.py --data FOLDER --weights resnet20-12fca82f.th

Each figure comes from a process of its own: the most memory it holds while the step runs, over what it holds before,
with the images loaded.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from workload import resnet

from compress.prune import Prune
from compress.quantize.model import quantize_model
from compress.samples import calibration_of
from compress.step import StepContext
from compress.workload import TensorBatches
from export.to_onnx import to_onnx
from targets.onnxruntime_mobile import OnnxRuntimeMobile

SAMPLES = (128, 512, 2048)
STEPS = ("calibration", "pruning")
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def main() -> None:
    options = _options()
    if options.step:
        print(grown_kib(options.step, options.samples, options.data, options.weights))
        return
    for step in STEPS:
        for samples in SAMPLES:
            own = [sys.executable, __file__, "--data", options.data, "--weights", options.weights]
            asked = [*own, "--step", step, "--samples", str(samples)]
            answer = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
            print(f"{step}, {samples:5,} samples: {int(answer.split()[-1]) / 1024:5.0f} MiB", flush=True)


def grown_kib(step: str, samples: int, data: str, weights: str) -> int:
    """KiB that a step needs at its peak beyond what was held when it began."""
    workload = resnet(data=data, weights=weights, depth=20)
    assert isinstance(workload.train, TensorBatches)
    workload = replace(workload, calibration=replace(workload.train, shuffle=False, batch_size=8))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if step == "calibration":
            axes, names = workload.dynamic_axes, workload.output_names
            model = to_onnx(workload.model, workload.example_inputs, axes, names, folder / "model.onnx", 18)
            target = OnnxRuntimeMobile()
            scheme = next(each for each in target.schemes(model) if each.mode == "static" and each.needs_calibration)
            begin_peak()
            held = status_kib("VmRSS")
            quantize_model(model, calibration_of(workload, samples), scheme, folder / "quantized.onnx")
        else:
            context = StepContext(workload, workload.model, folder, folder, seed=0, speedup=lambda model, target: 1.0)
            begin_peak()
            held = status_kib("VmRSS")
            Prune(macs_ratio=2.0, repair_samples=samples).apply(workload.model, context)
        return status_kib("VmHWM") - held


def begin_peak() -> None:
    """Let the kernel's record of the peak begin anew; see proc_pid_clear_refs(5)."""
    CLEAR.write_text("5")


def status_kib(field: str) -> int:
    """A size of this process in KiB: VmRSS is held now, VmHWM was the most since the record began."""
    found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())
    assert found is not None, f"{STATUS} tells no {field}"
    return int(found[1])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Peak memory of calibration and pruning.")
    parser.add_argument("--data", required=True, help="folder with the sheets of CIFAR-10")
    parser.add_argument("--weights", required=True, help="weights of ResNet-20")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--samples", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
