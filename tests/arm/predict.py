"""On the device: what an .ort file answers to batches of inputs. Python 3.9+ with numpy and onnxruntime, nothing else.

    python predict.py MODEL.ort INPUTS.npz OUTPUTS.npz

Arrays are named "BATCH/TENSOR" in both files: "0/image", "1/image", ...; "0/logits", "1/logits", ...
"""

from __future__ import annotations

import platform
import sys

import numpy as np
import onnxruntime


def main(model: str, inputs: str, outputs: str) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    batches: dict[str, dict[str, np.ndarray]] = {}
    with np.load(inputs) as file:
        for key in file.files:
            batch, tensor = key.split("/", 1)
            batches.setdefault(batch, {})[tensor] = file[key]
    answers: dict[str, np.ndarray] = {}
    for batch, tensors in batches.items():
        for name, answer in zip(names, session.run(names, tensors)):  # noqa: B905 (zip of Python 3.9 has no strict)
            answers[batch + "/" + name] = answer
    np.savez(outputs, **answers)
    print(platform.machine(), "onnxruntime", onnxruntime.__version__)


if __name__ == "__main__":
    main(*sys.argv[1:])
