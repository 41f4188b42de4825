"""What a max pool of 8-bit data costs OpenVINO at widths that fill no whole register: `python -m benchmarks.studies.max_pools`.

A 1x1 convolution from 32 channels, a 3x3 max pool of stride 1 and a 1x1 convolution back, on 16x16 pixels. Times are medians
of whole calls, of one thread; the forms of a network take turns.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.serve import pin
from benchmarks.studies.quantized_network import Drawing, medians_us
from targets.isa import instruction_sets
from targets.openvino.max_pools import REGISTER, fill_registers

WIDTHS = (24, 32, 40, 48, 56, 64, 80, 96, 104, 120, 128)
OUTER, SIDE = 32, 16


def network(path: Path, channels: int, int8: bool) -> None:
    """Write convolution, pool and convolution as ONNX, with Q/DQ around both convolutions where `int8` says so."""
    drawing = Drawing(int8)
    inner = drawing.eight_bits(drawing.add("Relu", "relu", drawing.convolution("first", "image", OUTER, channels)))
    pooled = drawing.add("MaxPool", "pooled", inner, kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4)
    answer = drawing.convolution("second", pooled, channels, OUTER)
    drawing.save(path, (OUTER, SIDE, SIDE), answer, (OUTER, SIDE, SIDE))


def main() -> None:
    """Print the table."""
    import openvino

    pin(1)
    core, settings = openvino.Core(), {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    image = np.random.default_rng(1).random((1, OUTER, SIDE, SIDE), dtype=np.float32)
    print(f"instruction sets: {', '.join(sorted(instruction_sets())) or 'unknown'}")
    print(f"{'channels':>8} {'FP32, us':>10} {'INT8':>8} {'INT8 over whole registers':>26}")
    for channels in WIDTHS:
        requests = {}
        for name in ("FP32", "INT8", "filled"):
            with tempfile.TemporaryDirectory(prefix="compress-") as folder:
                path = Path(folder) / "model.onnx"
                network(path, channels, int8=name != "FP32")
                model = core.read_model(path)
            filled = fill_registers(model) if name == "filled" else 0
            if name != "filled" or filled:
                requests[name] = core.compile_model(model, "CPU", settings).create_infer_request()
        found = medians_us(requests, image)
        told = f"{found['filled']:.0f}" if "filled" in found else f"fills them, or has at most {REGISTER}"
        print(f"{channels:8} {found['FP32']:10.0f} {found['INT8']:8.0f} {told:>26}", flush=True)


if __name__ == "__main__":
    main()
