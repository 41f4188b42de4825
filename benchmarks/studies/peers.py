"""Agreement with what others measure: OpenVINO's benchmark_app, and a plain loop around ONNX Runtime, alternating with us."""

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

ROUNDS = 15
SECONDS = 2
"""Of each peer's measurement in each round."""
LAYERS = 11
"""A model of about 5 ms. benchmark_app times the runtime's inside; we time the call from Python, from arrays to arrays,
which takes 0.03 ms more with OpenVINO: 2.5 % of a model of 1 ms, and no difference in measuring."""

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
    """Median latency by OpenVINO's own tool: one thread, one synchronous request, true FP32."""
    tool = Path(sys.executable).parent / "benchmark_app"
    if not tool.exists():
        raise EnvironmentFailure("benchmark_app: not found beside Python; pip install openvino")
    command = [str(tool), "-m", str(engine.path), "-d", "CPU", "-api", "sync", "-hint", "none", "-nthreads", "1"]
    command += ["-nstreams", "1", "-infer_precision", "f32", "-t", str(SECONDS)]
    found = re.search(r"Median:\s+([\d.]+) ms", _pinned(command))
    if found is None:
        raise EnvironmentFailure("benchmark_app: printed no median; run it by hand")
    return float(found[1]) / 1000


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
