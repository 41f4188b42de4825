"""What a small linear layer in 8 bits costs OpenVINO on a CPU without VNNI: `python -m benchmarks.studies.small_products`.

A 1x1 convolution, the mean over 4x4 pixels and a linear layer: in INT8, and the same with the linear layer in FP32 as the
OpenVINO target makes it, whatever its size. Times are medians of whole calls, of one thread; the forms take turns.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.serve import pin
from benchmarks.studies.quantized_network import Drawing, medians_us
from targets.isa import instruction_sets
from targets.openvino.small_products import multiply_in_float

SIZES = ((64, 10), (256, 10), (512, 10), (64, 100), (128, 128), (512, 100), (256, 256), (512, 512), (1024, 1000))
BATCHES = (1, 32)
SIDE = 4


def network(path: Path, features: int, outputs: int) -> None:
    """Write convolution, mean and linear layer as ONNX, with Q/DQ before both products."""
    drawing = Drawing(int8=True)
    inner = drawing.eight_bits(drawing.add("Relu", "relu", drawing.convolution("first", "image", 32, features)))
    axes = drawing.constant("axes", np.array([2, 3]))
    mean = drawing.add("ReduceMean", "mean", inner, axes, keepdims=0)
    answer = drawing.linear("linear", mean, features, outputs)
    drawing.save(path, (32, SIDE, SIDE), answer, (outputs,))


def main() -> None:
    """Print the table."""
    import openvino

    pin(1)
    core, settings = openvino.Core(), {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    print(f"instruction sets: {', '.join(sorted(instruction_sets())) or 'unknown'}")
    print(f"{'layer':>12} {'batch':>6} {'INT8, us':>10} {'FP32':>8} {'INT8 - FP32':>12}")
    for features, outputs in SIZES:
        requests = {}
        for name in ("INT8", "FP32"):
            with tempfile.TemporaryDirectory(prefix="compress-") as folder:
                path = Path(folder) / "model.onnx"
                network(path, features, outputs)
                model = core.read_model(path)
            if name == "FP32":
                changed = multiply_in_float(model, largest=features * outputs, share=np.inf)
                assert changed == 1, f"{changed} layers were changed, not 1"
            requests[name] = core.compile_model(model, "CPU", settings).create_infer_request()
        for batch in BATCHES:
            image = np.random.default_rng(1).random((batch, 32, SIDE, SIDE), dtype=np.float32)
            found = medians_us(requests, image)
            told = f"{found['INT8']:10.1f} {found['FP32']:8.1f} {found['INT8'] - found['FP32']:12.1f}"
            print(f"{features:>6} x {outputs:3} {batch:6} {told}", flush=True)


if __name__ == "__main__":
    main()
