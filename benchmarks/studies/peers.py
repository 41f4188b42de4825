"""Agreement with what others measure: OpenVINO's benchmark_app, and plain loops around either runtime, alternating with us."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.latency import Protocol, measure
from benchmarks.studies.models import conv_inputs, conv_model, engine_on
from export.errors import EnvironmentFailure
from targets import Engine

ROUNDS = 9
SECONDS = 2
"""Of each peer's measurement in each round."""
LAYERS = 11
"""A model of about 6 ms."""

_OPENVINO_LOOP = """
import sys, time
import numpy as np
import openvino
settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
compiled = openvino.Core().compile_model(sys.argv[1], "CPU", settings)
request, output = compiled.create_infer_request(), compiled.output(0)
image = np.random.default_rng(0).normal(size=tuple(compiled.input(0).shape)).astype(np.float32)
request.set_input_tensor(openvino.Tensor(image, shared_memory=True))
taken, end = [], time.perf_counter() + float(sys.argv[2])
while time.perf_counter() < end:
    start = time.perf_counter()
    features = np.array(request.infer(None, share_outputs=True)[output])
    taken.append(time.perf_counter() - start)
print(np.median(taken[len(taken) // 10:]))
"""

_LOOP = """
import sys, time
import numpy as np
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
image = {"image": np.random.default_rng(0).normal(size=session.get_inputs()[0].shape).astype(np.float32)}
taken, end = [], time.perf_counter() + float(sys.argv[2])
while time.perf_counter() < end:
    start = time.perf_counter()
    session.run(None, image)
    taken.append(time.perf_counter() - start)
print(np.median(taken[len(taken) // 10:]))
"""


def agreement(folder: Path) -> str:
    """A line for each peer: both medians and their ratio, each the median over alternating rounds."""
    model = conv_model(folder / "conv-agreement.onnx", LAYERS)
    lines = []
    for target, name, peer in (
        ("openvino", "benchmark_app", benchmark_app_s),
        ("openvino", "plain loop", openvino_loop_s),
        ("onnxruntime_mobile", "plain loop", plain_loop_s),
    ):
        engine = engine_on(target, model, folder / f"{target}-agreement")
        pairs = [(_ours_s(engine, index), peer(engine)) for index in range(ROUNDS)]
        ours, theirs = np.median(pairs, axis=0)
        ratio = float(np.median([mine / other for mine, other in pairs]))
        lines.append(
            f"agreement: {target} {1000 * ours:.3f} ms, {name} {1000 * theirs:.3f} ms, ratio {ratio:.3f} (0.97-1.03 asked), "
            f"{ROUNDS} alternating rounds"
        )
    return "\n".join(lines)


def benchmark_app_s(engine: Engine) -> float:
    """Median latency by OpenVINO's own tool: one thread, one synchronous request, true FP32.

    The tool reads the runtime's inner clock (`request.latency`); a caller waits 2 to 3 % longer for the same call.
    """
    tool = Path(sys.executable).parent / "benchmark_app"
    if not tool.exists():
        raise EnvironmentFailure("benchmark_app: not found beside Python; pip install openvino")
    command = [str(tool), "-m", str(engine.path), "-d", "CPU", "-api", "sync", "-hint", "none", "-nthreads", "1"]
    command += ["-nstreams", "1", "-infer_precision", "f32", "-t", str(SECONDS)]
    found = re.search(r"Median:\s+([\d.]+) ms", _pinned(command))
    if found is None:
        raise EnvironmentFailure("benchmark_app: printed no median; run it by hand")
    return float(found[1]) / 1000


def openvino_loop_s(engine: Engine) -> float:
    """Median time of a call from Python, from array to array, on one input again and again."""
    return float(_pinned([sys.executable, "-c", _OPENVINO_LOOP, str(engine.path), str(SECONDS)]))


def plain_loop_s(engine: Engine) -> float:
    """Median latency by the loop that everybody writes, on one input again and again."""
    return float(_pinned([sys.executable, "-c", _LOOP, str(engine.path), str(SECONDS)]))


def _ours_s(engine: Engine, seed: int) -> float:
    protocol = Protocol(seconds=2.0 * SECONDS, processes=1, seed=seed)
    return measure({"ours": engine}, {1: conv_inputs()}, protocol)["ours"].timings[1].median_s


def _pinned(command: list[str]) -> str:
    """What a command prints, run on the core that our workers use."""
    prefix = []
    if hasattr(os, "sched_getaffinity"):
        prefix = ["taskset", "-c", str(sorted(os.sched_getaffinity(0))[-1])]
    return subprocess.run([*prefix, *command], capture_output=True, text=True, check=True).stdout
